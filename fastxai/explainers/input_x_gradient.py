"""Input times gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fastxai.explainers.base import Batch
from fastxai.explainers.pixel_gradients import PixelGradients, PixelGradientsTask


@dataclass(frozen=True)
class InputXGradient(PixelGradients):
    """Input times gradient: x * dF/dx, x the model's input (normalised), F the raw score of the target.

    (Shrikumar, Greenside, Shcherbina and Kundaje, "Not Just a Black Box: Learning Important Features Through
    Propagating Activation Differences", 2016; `captum.attr.InputXGradient`.)

    Model calls: one forward pass an image and a backward pass a target.
    """

    method: ClassVar[str] = "input-x-gradient"

    def begin(self, batch: Batch) -> InputXGradientTask:
        return InputXGradientTask(self, batch)


class InputXGradientTask(PixelGradientsTask):
    """One row an image."""

    def attributions(self) -> Tensor:
        return self.batch.inputs.unsqueeze(1) * self.sums
