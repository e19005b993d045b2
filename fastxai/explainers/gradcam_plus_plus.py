"""Grad-CAM++, from the prediction's own forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fastxai.explainers.cam import Cam


@dataclass(frozen=True)
class GradCamPlusPlus(Cam):
    """Grad-CAM++: sum_d w_d A_d with w_d = sum_p a_dp relu(g_dp), g = d score / d A, p over positions, and

        a_dp = g_dp^2 / (2 g_dp^2 + (sum_q A_dq) g_dp^3 + 1e-6)

    (Chattopadhyay et al., "Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep Convolutional
    Networks", WACV 2018, equations 7 and 19, for the raw score; arithmetic of the `grad-cam` package.) layer and
    fields as of `GradCam`.
    """

    method: ClassVar[str] = "gradcam-plus-plus"

    def weighted(self, activation: Tensor, gradient: Tensor) -> Tensor:
        square = gradient**2
        sums = activation.sum(dim=(-2, -1), keepdim=True)
        shares = square / (2 * square + sums * (square * gradient) + 1e-6)
        # Where relu(g) is 0 so is the term: a denominator that happens to be 0 there must not count.
        weights = torch.where(gradient > 0, gradient * shares, 0).sum(dim=(-2, -1), keepdim=True)
        return (weights * activation).sum(dim=0)
