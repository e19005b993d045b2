"""The middle of a picture as an explanation: what a method is worth that does no better than a photographer's aim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fastxai.config import check_float
from fastxai.explainers import Batch, Explainer
from fastxai.explainers.base import Done
from fastxai.models import Model
from fastxai.models.sources import Options
from fastxai.types import Field, Preprocess


@dataclass(frozen=True)
class Centre(Explainer):
    """Centre: exp(-r^2 / (2 width^2)) at distance r from the middle, in halves of the picture's sides.

    Model calls: none beside the prediction.
    """

    method: ClassVar[str] = "centre"
    width: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_float("width", self.width, 0.0, above=True)

    def fields(self) -> tuple[Field, ...]:
        return (Field("maps", ("target", "y", "x"), long_name="closeness to the middle"),)

    def begin(self, batch: Batch) -> CentreTask:
        return CentreTask(self, batch)


class CentreTask(Done):
    """Asks the model for nothing."""

    def __init__(self, config: Centre, batch: Batch) -> None:
        self.config, self.batch = config, batch

    def finish(self) -> Mapping[str, Tensor]:
        height, width = self.batch.pixels.shape[-2:]
        y, x = (torch.linspace(-1, 1, side, device=self.batch.inputs.device) for side in (height, width))
        closeness = torch.exp(-(y[:, None] ** 2 + x**2) / (2 * self.config.width**2))
        return {"maps": closeness.expand(*self.batch.targets.shape, height, width).contiguous()}


class Dots(nn.Module):
    """Scores = mean colours: red, green and blue pictures."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def load(name: str, options: Options) -> Model:
    """`dots:16`: a model for pictures of 16 x 16."""
    side = int(name)
    return options.model(Dots(), Preprocess((side, side), None), f"dots:{name}", classes=["red", "green", "blue"])
