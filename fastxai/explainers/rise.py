"""RISE: the model's answer to thousands of randomly masked copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastxai import ops, sampling
from fastxai.config import check_choice, check_float, check_int
from fastxai.errors import ArgumentError
from fastxai.explainers.base import AtOnce, Batch, Block, Explainer, every_row
from fastxai.explainers.fills import check_channels, checked_fill, fill_inputs
from fastxai.explainers.pixel_results import check_pixel_targets
from fastxai.models import Reading, Scores
from fastxai.transfer import on_device
from fastxai.types import Field, Preprocess


@dataclass(frozen=True)
class Rise(Explainer):
    """RISE: sum_r f(x_r) m_r / (samples * probability), x_r = m_r x + (1 - m_r) fill, f the score of the target.

    (Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018.) A mask
    m_r is a grid of `cells` x `cells` coin flips, 1 with `probability`, resized bilinearly to (cells + 1) cells of the
    picture and cropped to it at a random place; draws are keyed by (seed, image, row).

    fill: what is hidden fades into: "black", "mean" (each picture's own mean colour) or a colour as 0..255 per channel
    (the authors' program hides normalised pictures, which is the colour of the model's mean). explains: the class
    "probability" or the raw "logit".

    Model calls: `samples` forward passes an image, whatever the number of targets.
    """

    method: ClassVar[str] = "rise"
    samples: int = 4000
    cells: int = 7
    probability: float = 0.5
    fill: Any = "black"
    explains: str = "probability"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("samples", self.samples, 1)
        check_int("cells", self.cells, 1)
        check_float("probability", self.probability, 0, above=True, high=1)
        check_choice("explains", self.explains, ("probability", "logit"))
        object.__setattr__(self, "fill", checked_fill(self.fill))

    def settle(self, preprocess: Preprocess, ids: Sequence[str]) -> Rise:
        check_channels(self.fill, preprocess)
        if self.cells > min(preprocess.size):
            raise ArgumentError(f"cells must be at most {min(preprocess.size)} for this model, got {self.cells}")
        return self

    def check_targets(self, targets: int) -> None:
        check_pixel_targets(self.name, targets)

    def row_count(self, targets: int) -> Mapping[str, int]:
        return {"scores": self.samples}

    def fields(self) -> tuple[Field, ...]:
        return (Field("maps", ("target", "y", "x"), long_name="mean score of the copies that show the pixel"),)

    def begin(self, batch: Batch) -> RiseTask:
        return RiseTask(self, batch)


class RiseTask(AtOnce):
    """Scores times grids, added up by the shifts of their masks: sums float32 [B * steps, K, cells, cells].

    The grids of all rows, a byte a cell, are drawn at once; a mask lives as long as its chunk.
    """

    def __init__(self, config: Rise, batch: Batch) -> None:
        self.config, self.batch = config, batch
        height, width = batch.inputs.shape[-2:]
        self.masks = sampling.GridMasks((height, width), config.cells, config.probability, batch.inputs.device)
        self.fill = fill_inputs(config.fill, batch)
        down, across = self.masks.steps
        images, targets = batch.targets.shape
        keys = sampling.stream_keys(batch.seed, batch.digests, config.method)
        grids, self.shifts = self.masks.draws(keys, *every_row(images, config.samples))
        self.grids = grids.to(torch.uint8)
        self.sums = torch.zeros(images * down * across, targets, config.cells, config.cells, device=batch.inputs.device)

    def all_rows(self) -> Block:
        return Block(*every_row(len(self.batch), self.config.samples), Scores(self.config.explains))

    def inputs(self, block: Block) -> Tensor:
        rows = self._places(block)
        masks = self.masks.grow(self.grids[rows].float(), self.shifts[rows])
        return ops.blend_rows(self.batch.inputs, masks, block.image, self.fill, dtype=self.batch.dtype)

    def fold(self, block: Block, reading: Reading) -> None:
        rows, (down, across) = self._places(block), self.masks.steps
        bins = (block.image * down + self.shifts[rows, 0]) * across + self.shifts[rows, 1]
        shown = on_device(self.grids[rows], self.sums.device).unsqueeze(1)
        ops.add_rows_(self.sums, bins, reading.scores[:, :, None, None] * shown)

    def _places(self, block: Block) -> Tensor:
        """Where the draws of each row are: int64 [R]."""
        return block.image * self.config.samples + block.ordinal

    def finish(self) -> Mapping[str, Tensor]:
        images, targets = self.batch.targets.shape
        by_shift = self.sums.reshape(images, *self.masks.steps, targets, *self.sums.shape[2:])
        # One map at a time, so that no product has another shape in another batch.
        maps = [self.masks.sum_up(by_shift[i, :, :, k]) for i in range(images) for k in range(targets)]
        share = self.config.samples * self.config.probability
        return {"maps": torch.stack(maps).reshape(images, targets, *maps[0].shape) / share}
