"""Grad-CAM, from the prediction's own forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fastxai import ops
from fastxai.errors import ArgumentTypeError
from fastxai.explainers.base import Batch, Done, Explainer, shows_maps
from fastxai.models import Session
from fastxai.types import Field


@dataclass(frozen=True)
class GradCam(Explainer):
    """Grad-CAM: sum_d w_d A_d, w_d the mean over positions of d score / d A_d, on the raw score of the target.

    (Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", 2017;
    arithmetic of the `grad-cam` package.) layer: a module's name, or "auto" for the last one with feature maps, in a
    transformer the last one whose tokens of patches the scores see.

    `native` is the signed map at the layer's own size; `maps` the displayed one in [0, 1]: its positive part, scaled
    by minimum and maximum, resized bilinearly to the picture, and scaled again.
    """

    method: ClassVar[str] = "gradcam"
    layer: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.layer, str) or not self.layer:
            raise ArgumentTypeError(f'layer must be a module\'s name or "auto", got {self.layer!r}')

    def layers(self, session: Session) -> tuple[str, ...]:
        return (session.cam_layer() if self.layer == "auto" else session.check_layer(self.layer),)

    def fields(self) -> tuple[Field, ...]:
        return (
            Field("maps", ("target", "y", "x"), long_name="displayed map", optional=True),
            Field("native", ("target", "cam_y", "cam_x"), long_name="signed map at the layer's size"),
        )

    def begin(self, batch: Batch) -> GradCamTask:
        return GradCamTask(batch)

    def rebuild(self, field: str, data: Mapping[str, Tensor], labels: Tensor | None, size: tuple[int, int]) -> Tensor:
        if field != "maps":
            return super().rebuild(field, data, labels, size)
        return displayed(data["native"], size)


class GradCamTask(Done):
    """Needs no rows: activations and gradients come with the prediction."""

    def __init__(self, batch: Batch) -> None:
        self.size = (batch.pixels.shape[-2], batch.pixels.shape[-1])
        (self.recording,) = batch.recordings

    def finish(self) -> Mapping[str, Tensor]:
        weights = self.recording.gradients.mean(dim=(-2, -1), keepdim=True)
        native = (weights * self.recording.activation.unsqueeze(1)).sum(dim=2)
        maps = {"maps": displayed(native, self.size)} if shows_maps(native.shape[1]) else {}
        return {**maps, "native": native}


def displayed(native: Tensor, size: tuple[int, int]) -> Tensor:
    """The map people look at: signed [B, K, h, w] -> [B, K, H, W] in [0, 1], as `grad-cam` scales it."""
    return _scaled(ops.upsample(_scaled(native.relu()), size))


def _scaled(maps: Tensor) -> Tensor:
    raised = maps - maps.amin(dim=(-2, -1), keepdim=True)
    scaled: Tensor = raised / (1e-7 + raised.amax(dim=(-2, -1), keepdim=True))
    return scaled
