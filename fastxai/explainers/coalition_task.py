"""The part that every method on coalitions of segments shares: rows, perturbed copies, readings in place."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fastxai import ops
from fastxai.explainers.base import Batch, Block, every_row
from fastxai.models import Probe, Reading
from fastxai.transfer import on_device
from fastxai.types import Preprocess, Segments

Fill = str | tuple[float, ...]


class CoalitionTask:
    """Reads the model on n coalitions of every image; subclasses make numbers of the values in `finish`.

    coalitions int32 [B, n, W] packed; values float32 [B, n, K] once all rows are folded.
    """

    def __init__(self, batch: Batch, segments: Segments, coalitions: Tensor, fill: Fill, probe: Probe) -> None:
        self.batch, self.segments, self.probe = batch, segments, probe
        self.coalitions = coalitions
        self.pictures = batch.inputs if batch.given_inputs else batch.pixels
        self.fill = fill_values(fill, self.pictures, segments, batch.preprocess, batch.given_inputs)
        images, samples = coalitions.shape[:2]
        self.values = torch.full((images, samples, batch.targets.shape[1]), float("nan"), device=batch.pixels.device)
        self._asked = False

    def rows(self) -> Block | None:
        if self._asked:
            return None
        self._asked = True
        images, samples = self.coalitions.shape[:2]
        return Block(*every_row(images, samples), self.probe)

    def inputs(self, block: Block) -> Tensor:
        return ops.compose_rows(
            self.pictures,
            self.segments.labels,
            self.coalitions[self._places(block)],
            block.image,
            self.fill,
            mean=self.batch.preprocess.mean,
            std=self.batch.preprocess.std,
            dtype=self.batch.dtype,
        )

    def fold(self, block: Block, reading: Reading) -> None:
        self.values[self._places(block)] = reading.scores

    def _places(self, block: Block) -> tuple[Tensor, Tensor]:
        device = self.coalitions.device
        return on_device(block.image, device), on_device(block.ordinal, device)

    def finish(self) -> Mapping[str, Tensor]:
        raise NotImplementedError


def fill_values(fill: Fill, pictures: Tensor, segments: Segments, preprocess: Preprocess, given_inputs: bool) -> Tensor:
    """What hidden segments show, in the pictures' own units: float32 [C], or [B, S, C] for "mean".

    A segment's mean colour of uint8 pictures is cut to whole numbers, as the `lime` package does.
    """
    if fill == "mean":
        return ops.segment_mean(pictures, segments.labels, int(segments.counts.max()), truncate=not given_inputs)
    colour = (0.0,) * preprocess.channels if fill == "black" else fill
    values = torch.tensor(colour, dtype=torch.float32, device=pictures.device)
    if given_inputs:
        mean, std = torch.tensor([preprocess.mean, preprocess.std], dtype=torch.float32, device=pictures.device)
        values = (values / 255 - mean) / std
    return values
