"""LayerCAM, from the prediction's own forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fastxai.explainers.cam import Cam


@dataclass(frozen=True)
class LayerCam(Cam):
    """LayerCAM: sum_d relu(g_d) A_d, position by position, with g = d score / d A of the raw score.

    (Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE TIP 2021, equations
    7 to 9.) Made for earlier layers and for several together. layer and fields as of `GradCam`.
    """

    method: ClassVar[str] = "layercam"

    def weighted(self, activation: Tensor, gradient: Tensor) -> Tensor:
        return (gradient.relu() * activation).sum(dim=0)
