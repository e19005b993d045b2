"""HiResCAM, from the prediction's own forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fastxai.explainers.cam import Cam


@dataclass(frozen=True)
class HiResCam(Cam):
    """HiResCAM: sum_d g_d A_d, position by position, with g = d score / d A of the raw score.

    (Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks",
    2020.) Where the score is linear in the layer's output, the native map adds up to it, up to its constant. layer and
    fields as of `GradCam`.
    """

    method: ClassVar[str] = "hirescam"

    def weighted(self, activation: Tensor, gradient: Tensor) -> Tensor:
        return (gradient * activation).sum(dim=0)
