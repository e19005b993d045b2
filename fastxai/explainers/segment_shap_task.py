"""GradientSHAP at superpixel resolution: by forward-mode products along segments, or by sums of gradients.

Both give sum over the pixels p of a segment of (x~ - b)_p dF_c / dx_p. A product along (x~ - b), 0 outside of the
segment, gives it for all classes at once; a backward pass gives it for all segments at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastxai import ops
from fastxai.explainers.base import Batch, Block
from fastxai.explainers.keyed_gradient_shap import KeyedGradientShap
from fastxai.explainers.path_task import PathTask
from fastxai.explainers.superpixels import painted
from fastxai.models import DirectionalDerivatives, InputGradients, Reading, pack_directions

if TYPE_CHECKING:
    from fastxai.explainers.gradient_shap import GradientShap

DIRECTIONS = DirectionalDerivatives().directions
TARGETS = 16  # classes a row of gradients is read at: more would hold too many gradients at once

# A product was measured to cost 0.7 to 1.5 backward passes of a class (EfficientNet-Lite0, batch norms folded, on a
# CPU), and the last row of a sample is filled up. Around the border, either is right.
_COST = 1.5


def products_pay(segments: int, targets: int) -> bool:
    """Whether `segments` forward-mode products are cheaper than backward passes of `targets` classes."""
    return targets > _COST * segments


class SegmentShapTask(PathTask):
    """Rows of products for the images where they pay, rows of gradients for the others; then those for the delta.

    A row is (sample, DIRECTIONS segments) or (sample, TARGETS classes): both are cut the same way whatever the batch.
    """

    def __init__(self, config: GradientShap, batch: Batch) -> None:
        super().__init__(config, batch, config.samples, config.stdevs)
        segments = batch.segments[config.segments.key]
        self.labels, self.counts = segments.labels, segments.counts.tolist()
        images, targets = batch.targets.shape
        self.forward = [config.uses_products(count, targets) for count in self.counts]
        parts = [-(-count // DIRECTIONS) for count in self.counts]
        self.parts = torch.tensor(parts, dtype=torch.int64)  # rows a sample, by image
        self.width = min(targets, TARGETS)
        self.slices = -(-targets // self.width)
        device, most = batch.inputs.device, max(self.counts, default=0)
        self.products = torch.zeros(images * max(parts, default=0), targets, DIRECTIONS, device=device)
        self.gradients = torch.zeros(images * self.slices, self.width, most, device=device)
        self.stages = ["directions"] * any(self.forward) + ["gradients"] * (not all(self.forward)) + self.stages

    def block_of(self, stage: str) -> Block:
        """The rows of the images that are read in this way, those of one side by side."""
        products = stage == "directions"
        images = [i for i, chosen in enumerate(self.forward) if chosen == products]
        counts = [self.samples * (int(self.parts[i]) if products else self.slices) for i in images]
        image = torch.tensor(images, dtype=torch.int64).repeat_interleave(torch.tensor(counts))
        ordinal = torch.cat([torch.arange(count) for count in counts])
        if products:
            return Block(image, ordinal, DirectionalDerivatives(DIRECTIONS))
        # The last slice of classes is filled up with the last class.
        wanted = torch.arange(self.slices * self.width).clamp_max(self.batch.targets.shape[1] - 1)
        wanted = wanted.reshape(self.slices, self.width)[ordinal % self.slices].to(self.batch.targets.device)
        return Block(image, ordinal, InputGradients(), self.batch.targets[image].gather(1, wanted))

    def drawn(self, block: Block) -> Block:
        sample = torch.div(block.ordinal, self._times(block), rounding_mode="floor")
        return Block(block.image, sample, block.probe)

    def rows_on(self, block: Block, pictures: Tensor, bases: Tensor, points: Tensor) -> Tensor:
        if self.stage == "gradients":
            return points
        first = self._place(block) * DIRECTIONS
        parts = self.labels[block.image] - first.to(self.labels.device).reshape(-1, 1, 1)
        return pack_directions(points, pictures - bases, parts)

    def fold_path(self, block: Block, reading: Reading) -> None:
        if reading.derivatives is not None:
            at = block.image * (len(self.products) // len(self.batch)) + self._place(block)
            ops.add_rows_(self.products, at, reading.derivatives)
            return
        assert reading.gradients is not None
        pictures, bases, _ = self.paths(self.drawn(block))
        parts = KeyedGradientShap.contributions(pictures, bases, reading.gradients).sum(2)  # [R, T, H, W]
        rows = self.gradients.new_zeros(len(block), *self.gradients.shape[1:])
        for row, image in enumerate(block.image.tolist()):
            count = self.counts[image]
            rows[row, :, :count] = segment_sums(parts[row], self.labels[image], count)
        ops.add_rows_(self.gradients, block.image * self.slices + self._place(block), rows)

    def _times(self, block: Block) -> Tensor:
        """Rows a sample of each row's image: int64 [R]."""
        return self.parts[block.image] if self.stage == "directions" else torch.full_like(block.image, self.slices)

    def _place(self, block: Block) -> Tensor:
        """Which of its sample's rows each row is: int64 [R]."""
        return block.ordinal % self._times(block)

    def finish(self) -> Mapping[str, Tensor]:
        images, targets = self.batch.targets.shape
        most = max(self.counts)
        products = self.products.reshape(images, -1, targets, DIRECTIONS).transpose(1, 2).flatten(2)
        gradients = self.gradients.reshape(images, -1, most)
        weights = torch.full((images, targets, most), float("nan"), device=products.device)
        for i, count in enumerate(self.counts):
            found = products[i] if self.forward[i] else gradients[i]
            weights[i, :, :count] = found[:targets, :count] / self.samples
        # An image at a time, so that nothing is added in another order than it would be alone.
        whole = torch.stack([weights[i, :, :count].sum(1) for i, count in enumerate(self.counts)])
        return {**painted(weights, self.labels), "weights": weights, "delta": self.delta(whole)}


def segment_sums(values: Tensor, labels: Tensor, segments: int) -> Tensor:
    """Sums of values float32 [T, H, W] over each segment of labels int32 [H, W]: float32 [T, segments].

    Added up in float64 and in an order that does not vary from call to call.
    """
    flat, index = values.flatten(1).double(), labels.flatten().long()
    if flat.device.type == "cpu":
        sums = flat.new_zeros(len(flat), segments)
        return sums.scatter_add_(1, index.expand(len(flat), -1), flat).float()
    # On a GPU `scatter_add_` uses atomics, whose order is not fixed.
    kept = index.unsqueeze(1) == torch.arange(segments, device=index.device)
    return (flat @ kept.double()).float()
