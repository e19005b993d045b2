"""Eigen-CAM, from the activations of the prediction's own forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fastxai.explainers.cam import Cam
from fastxai.models import Recording


@dataclass(frozen=True)
class EigenCam(Cam):
    """Eigen-CAM: activations projected on their first principal component, X v with X [positions, channels] centred
    over positions and v its first right singular vector. It knows no class: the map of every target is the same.

    (Muhammad and Yeasin, "Eigen-CAM: Class Activation Map using Principal Components", IJCNN 2020; centred as in the
    `grad-cam` package.) A singular vector has no sign of its own, and what the package takes is its LAPACK's. Here the
    position farthest from 0 is positive, as in Chung and Ying, "Seg-Eigen-CAM", 2025, equation 13: the displayed map
    is the package's, or the one that it shows with the other sign. layer and fields as of `GradCam`.
    """

    method: ClassVar[str] = "eigencam"
    layer_gradients: ClassVar[bool] = False

    def native(self, recording: Recording, targets: int) -> Tensor:
        # An image at a time, so that nothing is added up in another order than it would be alone.
        found = torch.stack([_first_component(activation) for activation in recording.activation])
        return found.unsqueeze(1).repeat(1, targets, 1, 1)


def _first_component(activation: Tensor) -> Tensor:
    """float32 [D, h, w] -> [h, w]; NaN where an activation is not finite."""
    values = activation.flatten(1).double().T
    centred = values - values.mean(dim=0)
    fine = torch.isfinite(centred).all()
    centred = centred.nan_to_num(0, 0, 0)  # LAPACK refuses anything else, and one image must not end a run
    # Of the positions or of the channels, whichever are fewer: squares in float64 keep all that float32 had.
    if centred.shape[0] <= centred.shape[1]:
        spread, vectors = torch.linalg.eigh(centred @ centred.T)  # ascending
        found = vectors[:, -1] * spread[-1].clamp_min(0).sqrt()
    else:
        _, vectors = torch.linalg.eigh(centred.T @ centred)
        found = centred @ vectors[:, -1]
    farthest = found[found.abs().argmax()]
    signed = torch.where(farthest < 0, -found, found)
    return torch.where(fine, signed, float("nan")).float().reshape(activation.shape[1:])
