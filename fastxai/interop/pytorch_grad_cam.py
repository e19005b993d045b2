"""`pytorch_grad_cam` on our engine: `from fastxai.interop.pytorch_grad_cam import GradCAM` in place of the package's.

The maps are the package's. The model may be a `fastxai.Model` too, for its precision; it is neither hooked nor changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.explainers import (
    AblationCam,
    Batch,
    EigenCam,
    Explainer,
    GradCam,
    GradCamPlusPlus,
    HiResCam,
    LayerCam,
    ScoreCam,
    Task,
    XGradCam,
)
from fastxai.explainers.base import Done
from fastxai.explainers.cam import Cam
from fastxai.interop._kept import KeptModel
from fastxai.interop._ready import check_all_explained, image_batch, layer_name
from fastxai.models import Session
from fastxai.types import Field

__all__ = [
    "AblationCAM",
    "ClassifierOutputTarget",
    "EigenCAM",
    "GradCAM",
    "GradCAMPlusPlus",
    "HiResCAM",
    "LayerCAM",
    "ScoreCAM",
    "XGradCAM",
]

_ZOOMS = (0.9, 1.0, 1.1)  # of `aug_smooth`, each also flipped


@dataclass(frozen=True)
class ClassifierOutputTarget:
    """The raw score of a class, as the package's class of this name, which is taken as well."""

    category: int


class _CAM:
    """Base of the methods: `cam(input_tensor=x, targets=[...])` -> maps float32 [N, H, W] in [0, 1].

    target_layers: modules of the model, one or several. reshape_transform: not needed, for where tokens lie is found
    from the model; what is given is held against that, and refused where it says something else. `outputs`: the model's
    raw scores [N, classes] of the last call.
    """

    config: ClassVar[type[Cam]]

    def __init__(
        self,
        model: Any,
        target_layers: Sequence[nn.Module],
        reshape_transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.model, self.target_layers = model, list(target_layers)
        self.reshape_transform = reshape_transform
        self.outputs: Tensor | None = None
        if not self.target_layers:
            raise ArgumentError("target_layers must hold at least one module of the model, got none")
        self._kept = KeptModel(model)
        names = tuple(layer_name(self._kept.module, layer) for layer in self.target_layers)
        self._config = self.config(names if len(names) > 1 else names[0])

    def __call__(
        self,
        input_tensor: Tensor,
        targets: Sequence[Any] | None = None,
        aug_smooth: bool = False,
        eigen_smooth: bool = False,
    ) -> NDArray[np.float32]:
        """Model input [N, C, H, W], and a `ClassifierOutputTarget` for each, or None for the best class of each.

        aug_smooth: the mean over the picture and its mirror image, each times 0.9, 1 and 1.1.
        """
        if eigen_smooth:
            raise ArgumentError("eigen_smooth must be False, got True: use EigenCAM, or pytorch_grad_cam for it")
        if not isinstance(input_tensor, Tensor):
            raise ArgumentTypeError(f"input_tensor must be a tensor [N, C, H, W], got {type(input_tensor).__name__}")
        ids, count = _class_ids(targets, len(input_tensor)), len(input_tensor)
        given = input_tensor.detach()
        if not aug_smooth:
            return self._maps(given, ids).numpy()
        seen = torch.cat([x * zoom for x in (given, given.flip(-1)) for zoom in _ZOOMS])
        found = self._maps(seen, None if ids is None else ids.repeat(2 * len(_ZOOMS)))
        plain, mirrored = found.unflatten(0, (2, len(_ZOOMS), count))
        assert self.outputs is not None
        self.outputs = self.outputs[count : 2 * count]  # of the pictures as they are
        return (torch.cat([plain, mirrored.flip(-1)]).mean(0)).numpy()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is hooked, so there is nothing to take off."""

    def _maps(self, inputs: Tensor, ids: Tensor | None) -> Tensor:
        """Displayed maps [N, H, W]; sets `outputs`."""
        rows = {"predict": len(inputs)}
        logits = _Logits()
        with self._kept.engine(
            inputs, rows, explainers=(self._config, logits), targets=lambda classes: "top1" if ids is None else ids
        ) as engine:
            if self.reshape_transform is not None:
                for name in engine.layers[self._config.name]:
                    check_transform(self.reshape_transform, engine.session, name)
            images = image_batch(inputs)
            explained = engine.explain(images)
        check_all_explained(images)
        self.outputs = explained.methods[logits.name]["logits"].to(inputs.device)
        return explained.methods[self._config.name]["maps"][:, 0]


class GradCAM(_CAM):
    """`pytorch_grad_cam.GradCAM`."""

    config = GradCam


class GradCAMPlusPlus(_CAM):
    """`pytorch_grad_cam.GradCAMPlusPlus`."""

    config = GradCamPlusPlus


class HiResCAM(_CAM):
    """`pytorch_grad_cam.HiResCAM`."""

    config = HiResCam


class LayerCAM(_CAM):
    """`pytorch_grad_cam.LayerCAM`."""

    config = LayerCam


class XGradCAM(_CAM):
    """`pytorch_grad_cam.XGradCAM`."""

    config = XGradCam


class EigenCAM(_CAM):
    """`pytorch_grad_cam.EigenCAM`, with the sign of the component settled: the farthest position is positive."""

    config = EigenCam


class ScoreCAM(_CAM):
    """`pytorch_grad_cam.ScoreCAM`. Its `batch_size` may be set and decides nothing."""

    config = ScoreCam
    batch_size = 16


class AblationCAM(_CAM):
    """`pytorch_grad_cam.AblationCAM`, for layers behind a ReLU, where the package ablates to 0 as the paper does.

    batch_size decides nothing.
    """

    config = AblationCam

    def __init__(
        self,
        model: Any,
        target_layers: Sequence[nn.Module],
        reshape_transform: Callable[[Tensor], Tensor] | None = None,
        ablation_layer: Any = None,
        batch_size: int = 32,
        ratio_channels_to_ablate: float = 1.0,
    ) -> None:
        super().__init__(model, target_layers, reshape_transform)
        if ablation_layer is not None:
            raise ArgumentError("ablation_layer must be None, got one: channels are ablated without it here")
        if ratio_channels_to_ablate != 1.0:
            raise ArgumentError(
                f"ratio_channels_to_ablate must be 1.0, got {ratio_channels_to_ablate}: fastxai.AblationCam(channels=) "
                "takes the channels that vary most"
            )
        self.batch_size = batch_size


@dataclass(frozen=True)
class _Logits(Explainer):
    """The raw scores of the prediction pass."""

    method: ClassVar[str] = "logits"
    layer_gradients: ClassVar[bool] = False

    def fields(self) -> tuple[Field, ...]:
        return (Field("logits", ("class",)),)

    def begin(self, batch: Batch) -> Task:
        return _LogitsTask(batch)


class _LogitsTask(Done):
    """Needs no rows."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def finish(self) -> dict[str, Tensor]:
        return {"logits": self.batch.logits}


def check_transform(transform: Callable[[Tensor], Tensor], session: Session, layer: str) -> None:
    """Raise `ArgumentError` where a `reshape_transform` puts positions elsewhere than the model's trace does."""
    layout = session.layout(layer)
    channels, height, width = session.map_shape(layer)
    maps = torch.arange(channels * height * width, dtype=torch.float32).reshape(1, channels, height, width)
    rows = maps.movedim(1, -1)
    raw = maps
    if layout.grid is not None:
        raw = torch.cat([torch.full((1, layout.prefix, channels), -1.0), rows.flatten(1, 2)], dim=1)
    elif layout.last:
        raw = rows
    try:
        same = torch.equal(transform(raw), maps)
    except Exception as error:
        raise ArgumentError(
            f"reshape_transform must take outputs {list(raw.shape)} of {layer!r}, got {type(error).__name__}: {error}"
        ) from error
    if not same:
        raise ArgumentError(
            f"reshape_transform must lay outputs {layout.form} of {layer!r} out as maps [B, D, h, w] in raster order, "
            "got another order: leave it out, or use pytorch_grad_cam"
        )


def _class_ids(targets: Sequence[Any] | None, count: int) -> Tensor | None:
    """int64 [N] of targets."""
    if targets is None:
        return None
    found = list(targets)
    for target in found:
        if type(target).__name__ != ClassifierOutputTarget.__name__ or not hasattr(target, "category"):
            raise ArgumentTypeError(
                f"targets must be ClassifierOutputTarget each, got {type(target).__name__}: "
                "for scores of other kinds use pytorch_grad_cam"
            )
    if len(found) != count:
        raise ArgumentError(f"targets must be one for each of {count} inputs, got {len(found)}")
    return torch.tensor([int(target.category) for target in found])
