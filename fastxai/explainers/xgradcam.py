"""XGrad-CAM, from the prediction's own forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fastxai.explainers.cam import Cam


@dataclass(frozen=True)
class XGradCam(Cam):
    """XGrad-CAM: sum_d w_d A_d with w_d = sum_p g_dp A_dp / (sum_q A_dq + 1e-7), g = d score / d A, p over positions.

    (Fu et al., "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs", BMVC 2020, equation 8,
    for the raw score; arithmetic of the `grad-cam` package.) Meant for layers behind a ReLU: elsewhere a channel's sum
    can come close to 0 and its weight grow without bound. layer and fields as of `GradCam`.
    """

    method: ClassVar[str] = "xgradcam"

    def weighted(self, activation: Tensor, gradient: Tensor) -> Tensor:
        sums = activation.sum(dim=(-2, -1), keepdim=True)
        weights = (gradient * activation / (sums + 1e-7)).sum(dim=(-2, -1), keepdim=True)
        return (weights * activation).sum(dim=0)
