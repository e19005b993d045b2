"""Saliency: the plain gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fastxai.errors import ArgumentError
from fastxai.explainers.base import Batch
from fastxai.explainers.pixel_gradients import PixelGradients, PixelGradientsTask


@dataclass(frozen=True)
class Saliency(PixelGradients):
    """Saliency: |dF/dx| at the picture, F the raw score of the target.

    (Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks: Visualising Image Classification Models and
    Saliency Maps", 2014; `captum.attr.Saliency`.) The map is the sum over channels, where the paper takes the maximum.
    absolute: the gradient's size, as the paper and captum have it; False gives the signed gradient.

    Model calls: one forward pass an image and a backward pass a target.
    """

    method: ClassVar[str] = "saliency"
    absolute: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.absolute, bool):
            raise ArgumentError(f"absolute must be True or False, got {self.absolute!r}")

    def begin(self, batch: Batch) -> SaliencyTask:
        return SaliencyTask(self, batch)


class SaliencyTask(PixelGradientsTask):
    """One row an image."""

    def __init__(self, config: Saliency, batch: Batch) -> None:
        super().__init__(config, batch)
        self.absolute = config.absolute

    def attributions(self) -> Tensor:
        return self.sums.abs() if self.absolute else self.sums
