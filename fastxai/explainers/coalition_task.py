"""The part that every method on coalitions of segments shares: rows, perturbed copies, readings in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastxai import ops, sampling
from fastxai.explainers.base import Batch, Block
from fastxai.explainers.fills import fill_values
from fastxai.models import Reading, Scores
from fastxai.transfer import on_device

if TYPE_CHECKING:
    from fastxai.explainers.kernel_shap import KernelShap
    from fastxai.explainers.lime import Lime


class CoalitionTask:
    """Reads the model on coalitions of every image; subclasses draw them in `draw` and make numbers of the values in
    `finish`. They come all at once, unless `wanted` asks for them round by round.

    have: rows read of each image, n_b. coalitions int32 [B, n, W] packed and values float32 [B, n, K], n the largest
    of them; behind an image's own rows there are zeros and NaN.
    """

    def __init__(self, config: Lime | KernelShap, batch: Batch) -> None:
        segments = batch.segments[config.segments.key]
        self.batch, self.segments, self.probe = batch, segments, Scores(config.explains)
        self.samples = config.samples
        self.pictures = batch.inputs if batch.given_inputs else batch.pixels
        self.fill = fill_values(config.fill, self.pictures, segments, batch.preprocess, batch.given_inputs)
        device, images = batch.pixels.device, len(batch)
        self.have = [0] * images
        self.coalitions = torch.zeros(
            images, 0, sampling.word_count(int(segments.counts.max())), dtype=torch.int32, device=device
        )
        self.values = torch.zeros(images, 0, batch.targets.shape[1], device=device)

    def wanted(self) -> list[int]:
        """Rows that each image is to have in all; those it has already where it is done."""
        assert isinstance(self.samples, int)
        return self.all_of(self.samples)

    def all_of(self, samples: int) -> list[int]:
        """So many rows of every image."""
        return [samples] * len(self.batch)

    def draw(self, images: Sequence[int], samples: int) -> Tensor:
        """The first `samples` coalitions of some images: int32 [len(images), samples, W]."""
        raise NotImplementedError

    def rows(self) -> Block | None:
        wanted = self.wanted()
        images = [image for image, (have, want) in enumerate(zip(self.have, wanted, strict=True)) if want > have]
        if not images:
            return None
        more = max(wanted) - self.coalitions.shape[1]
        if more > 0:
            self.coalitions = torch.nn.functional.pad(self.coalitions, (0, 0, 0, more))
            self.values = torch.nn.functional.pad(self.values, (0, 0, 0, more), value=float("nan"))
        most = max(wanted[image] for image in images)
        ordinals = []
        for image, drawn in zip(images, self.draw(images, most), strict=True):
            ordinals.append(torch.arange(self.have[image], wanted[image]))
            self.coalitions[image, : wanted[image]] = drawn[: wanted[image]]
            self.have[image] = wanted[image]
        lengths = torch.tensor([len(ordinal) for ordinal in ordinals])
        return Block(torch.tensor(images).repeat_interleave(lengths), torch.cat(ordinals), self.probe)

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
