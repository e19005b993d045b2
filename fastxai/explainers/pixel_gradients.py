"""The part that methods on plain input gradients share: rows near the picture, and sums of what is read there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fastxai import ops
from fastxai.errors import ArgumentError
from fastxai.explainers.base import AtOnce, Batch, Block, Explainer, every_row
from fastxai.explainers.pixel_results import attribution_fields, attribution_results, check_pixel_targets
from fastxai.models import InputGradients, Reading
from fastxai.transfer import on_device
from fastxai.types import Field


@dataclass(frozen=True)
class PixelGradients(Explainer):
    """Base of the methods that make a value for every number of the input of gradients at or around the picture.

    attributions: keep [K, C, H, W] beside the maps [K, H, W], which are sums over channels.
    """

    attributions: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.attributions, bool):
            raise ArgumentError(f"attributions must be True or False, got {self.attributions!r}")

    def check_targets(self, targets: int) -> None:
        check_pixel_targets(self.name, targets)

    def row_count(self, targets: int) -> Mapping[str, int]:
        return {"gradients": 1}

    def fields(self) -> tuple[Field, ...]:
        return attribution_fields(self.attributions)


class PixelGradientsTask(AtOnce):
    """Reads gradients at `samples` points of every image and adds them up: `sums` float32 [B, K, C, H, W]."""

    def __init__(self, config: PixelGradients, batch: Batch, samples: int = 1) -> None:
        self.keep, self.batch, self.samples = config.attributions, batch, samples
        self.sums = torch.zeros(*batch.targets.shape, *batch.inputs.shape[1:], device=batch.inputs.device)

    def all_rows(self) -> Block:
        return Block(*every_row(len(self.batch), self.samples), InputGradients())

    def inputs(self, block: Block) -> Tensor:
        """The points: the picture itself."""
        return self.batch.inputs[on_device(block.image, self.sums.device)]

    def fold(self, block: Block, reading: Reading) -> None:
        assert reading.gradients is not None
        self.add(block, reading.gradients)

    def add(self, block: Block, gradients: Tensor) -> None:
        """Take in gradients [R, K, C, H, W]."""
        ops.add_rows_(self.sums, block.image, gradients)

    def attributions(self) -> Tensor:
        """[B, K, C, H, W], once all rows are in."""
        return self.sums / self.samples

    def finish(self) -> Mapping[str, Tensor]:
        return attribution_results(self.attributions(), self.keep)
