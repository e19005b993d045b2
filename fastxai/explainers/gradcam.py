"""Grad-CAM, from the prediction's own forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fastxai.explainers.cam import Cam
from fastxai.models import Recording


@dataclass(frozen=True)
class GradCam(Cam):
    """Grad-CAM: sum_d w_d A_d, w_d the mean over positions of d score / d A_d, on the raw score of the target.

    (Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", 2017;
    arithmetic of the `grad-cam` package.) layer: a module's name, "auto" for the last layer with feature maps (in a
    transformer the last one whose tokens of patches the scores see), or a tuple of names.

    `native` is the signed map at the layer's own size (`native_2`, ... those of further layers); `maps` the displayed
    one in [0, 1]: positive parts, scaled by minimum and maximum, resized bilinearly to the picture, their mean over
    layers, scaled again.
    """

    method: ClassVar[str] = "gradcam"

    def native(self, recording: Recording, targets: int) -> Tensor:
        weights = recording.gradients.mean(dim=(-2, -1), keepdim=True)
        return (weights * recording.activation.unsqueeze(1)).sum(dim=2)
