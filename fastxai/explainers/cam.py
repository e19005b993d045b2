"""The part that every class activation map shares: its layers, its fields, and how a signed map is displayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastxai import ops
from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.explainers.base import Batch, Done, Explainer, Task, shows_maps
from fastxai.models import Recording, Session
from fastxai.types import Field


@dataclass(frozen=True)
class Cam(Explainer):
    """Base of the class activation maps. layer: a module's name, "auto" for the last layer with feature maps, or a
    tuple of names.

    `native` is the signed map at the layer's own size, with several layers that of the first, and `native_2`,
    `native_3`, ... those of the others; `maps` the displayed one in [0, 1]: see `displayed`.

    A method of the prediction pass alone is its `weighted`, or its `native` where it is not a formula of one target.
    """

    layer: str | tuple[str, ...] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.layer, list):
            object.__setattr__(self, "layer", tuple(self.layer))
        names = self._names
        if not names or not all(isinstance(name, str) and name for name in names):
            form = 'layer must be a module\'s name or "auto", or a tuple of these'
            raise ArgumentTypeError(f"{form}, got {self.layer!r}")
        _check_different(names)

    @property
    def _names(self) -> tuple[str, ...]:
        return self.layer if isinstance(self.layer, tuple) else (self.layer,)

    def layers(self, session: Session) -> tuple[str, ...]:
        names = self._names
        return _check_different(
            tuple(session.cam_layer() if name == "auto" else session.check_layer(name) for name in names)
        )

    def fields(self) -> tuple[Field, ...]:
        sizes = [f"signed map at the size of {name}" for name in self._names]
        if len(sizes) == 1:
            sizes = ["signed map at the layer's size"]
        return (
            Field("maps", ("target", "y", "x"), long_name="displayed map", optional=True),
            *(
                Field(name, ("target", "cam_y", "cam_x"), long_name=size)
                for name, size in zip(self.natives, sizes, strict=True)
            ),
        )

    @property
    def natives(self) -> tuple[str, ...]:
        """Names of the fields with signed maps, one a layer."""
        return tuple("native" if place == 1 else f"native_{place}" for place in range(1, len(self._names) + 1))

    def begin(self, batch: Batch) -> Task:
        return CamTask(self, batch)

    def rebuild(self, field: str, data: Mapping[str, Tensor], labels: Tensor | None, size: tuple[int, int]) -> Tensor:
        if field != "maps":
            return super().rebuild(field, data, labels, size)
        return displayed([data[name] for name in self.natives], size)

    def results(self, natives: Sequence[Tensor], size: tuple[int, int]) -> Mapping[str, Tensor]:
        """The fields, of signed maps [B, K, h, w] of each layer in its order."""
        maps = {"maps": displayed(natives, size)} if shows_maps(natives[0].shape[1]) else {}
        return {**maps, **dict(zip(self.natives, natives, strict=True))}

    def native(self, recording: Recording, targets: int) -> Tensor:
        """Signed maps [B, K, h, w] of a recorded layer, K = `targets`."""
        # One image and target after the other, so that nothing is added up in another order than it would be alone.
        pairs = zip(recording.activation, recording.gradients, strict=True)
        return torch.stack(
            [torch.stack([self.weighted(activation, gradient) for gradient in each]) for activation, each in pairs]
        )

    def weighted(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """The signed map [h, w] of activations [D, h, w] and the gradient of a target's score for these."""
        raise NotImplementedError


class CamTask(Done):
    """Needs no rows: activations and gradients come with the prediction."""

    def __init__(self, config: Cam, batch: Batch) -> None:
        self.config, self.batch = config, batch

    def finish(self) -> Mapping[str, Tensor]:
        targets = self.batch.targets.shape[1]
        natives = [self.config.native(recording, targets) for recording in self.batch.recordings]
        return self.config.results(natives, picture_size(self.batch))


def displayed(natives: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """The map people look at: signed [B, K, h, w] of each layer -> [B, K, H, W] in [0, 1], as `grad-cam` makes it.

    Positive parts, scaled by minimum and maximum, resized bilinearly to the picture; their mean over layers, scaled
    again.
    """
    shown = [ops.upsample(_scaled(native.relu()), size) for native in natives]
    return _scaled(shown[0] if len(shown) == 1 else torch.stack(shown).mean(0))


def picture_size(batch: Batch) -> tuple[int, int]:
    """H, W of the pictures."""
    return batch.pixels.shape[-2], batch.pixels.shape[-1]


def _scaled(maps: Tensor) -> Tensor:
    raised = maps - maps.amin(dim=(-2, -1), keepdim=True)
    scaled: Tensor = raised / (1e-7 + raised.amax(dim=(-2, -1), keepdim=True))
    return scaled


def _check_different(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ArgumentError(f"layer must name different layers, got {name!r} twice")
    return names
