"""Random parts of the picture hidden: what the three measures have in common that compare sums of a map with falls of
the score. The rows do not depend on the maps, so all methods and targets share them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastxai import ops, sampling
from fastxai.config import check_choice, check_int
from fastxai.explainers import Batch, Block
from fastxai.explainers.base import AtOnce, every_row
from fastxai.explainers.fills import check_channels
from fastxai.faithfulness.base import CURVE, Maps, RowMeasure, Values
from fastxai.faithfulness.hiding import SIGMA, Units, checked, fill_pictures, hide, optional_segmenter
from fastxai.models import Reading, Scores
from fastxai.segments import Grid, Segmenter
from fastxai.transfer import on_device
from fastxai.types import Preprocess

SUBSETS = 6  # stream of the counter; the measure is in the key


@dataclass(frozen=True)
class Subsets(RowMeasure):
    """Base of the measures on random subsets S of the units of a picture.

    samples: subsets of each size. segments: units are its segments; None: single pixels. fill: what S shows when it is
    hidden: "black", "mean" (each picture's own mean colour), "blur" (the picture, blurred by `blur` pixels) or a
    colour as 0..255 per channel. score: the class "probability" or the raw "logit". Subsets are keyed by (seed, image,
    row): the units with the smallest of as many random words.

    Model calls: one forward pass for the whole picture and one a subset, whatever the number of methods and targets.
    """

    samples: int = 200
    segments: Any = field(default_factory=partial(Grid, 9, 9))
    fill: Any = "black"
    blur: float = SIGMA
    score: str = "probability"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("samples", self.samples, 3)
        object.__setattr__(self, "fill", checked(self.fill, self.blur))
        object.__setattr__(self, "segments", optional_segmenter(self.segments))
        check_choice("score", self.score, ("probability", "logit"))

    def settle(self, preprocess: Preprocess, ids: Sequence[str]) -> Subsets:
        check_channels(self.fill, preprocess)
        return self if self.segments is None else replace(self, segments=self.segments.settle(ids, preprocess.size))

    def segmenters(self) -> tuple[Segmenter, ...]:
        return () if self.segments is None else (self.segments,)

    def hidden_shares(self) -> tuple[float, ...]:
        """The sizes of the subsets, as shares of the units."""
        raise NotImplementedError

    def row_count(self, methods: int, targets: int) -> int:
        return 1 + len(self.hidden_shares()) * self.samples

    def begin(self, batch: Batch, maps: Maps) -> SubsetTask:
        return SubsetTask(self, batch, maps)

    def value(self, sums: Values, falls: Values) -> float:
        """From sums of a map over subsets of one size and the falls of the score, both [samples]; NaN if undefined."""
        raise NotImplementedError


def draw_subsets(
    keys: Tensor, image: int, ordinal: NDArray[np.int64], units: int, sizes: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Random subsets of the units 0..units-1 of one image: bool [R, units].

    keys int64 [B, 2]; ordinal [R] of the rows; sizes [R], how many units each holds.
    """
    rows = torch.from_numpy(ordinal)
    words = ops.random_words(keys, torch.full_like(rows, image), rows, units, SUBSETS)
    order = np.argsort(words.numpy(), axis=1, kind="stable")
    subsets = np.zeros((len(ordinal), units), dtype=np.bool_)
    np.put_along_axis(subsets, order, np.arange(units) < sizes[:, None], axis=1)
    return subsets


class SubsetTask(AtOnce):
    """Row 0 of an image is the whole picture, row 1 + g * samples + i hides subset i of size g: scores [B, rows, K]."""

    def __init__(self, config: Subsets, batch: Batch, maps: Maps) -> None:
        self.config, self.batch, self.maps = config, batch, maps
        self.units = Units(batch, config.segments)
        self.keys = sampling.stream_keys(batch.seed, batch.digests, config.method)
        self.fill = fill_pictures(config.fill, config.blur, batch)
        self.count = config.row_count(*maps.shape[1:3])
        shape = (len(batch), self.count, batch.targets.shape[1])
        self.scores = torch.full(shape, float("nan"), device=batch.inputs.device)

    def all_rows(self) -> Block:
        return Block(*every_row(len(self.batch), self.count), Scores(self.config.score))

    def inputs(self, block: Block) -> Tensor:
        ordinal = block.ordinal.numpy()
        hidden = []
        for image in block.image.unique_consecutive().tolist():
            chosen = torch.from_numpy(self._subsets(image, ordinal[block.image.numpy() == image]))
            labels = self.units.labels[image].flatten().long()
            hidden.append(on_device(chosen, labels.device)[:, labels])
        masks = torch.cat(hidden).unflatten(1, self.units.labels.shape[1:])
        return hide(self.batch, self.fill, masks, block.image)

    def _subsets(self, image: int, ordinal: NDArray[np.int64]) -> NDArray[np.bool_]:
        """What the rows of one image hide: bool [R, units]; row 0 hides nothing."""
        shares, units = np.array(self.config.hidden_shares()), self.units.counts[image]
        sizes = np.clip(np.floor(shares * units + 0.5).astype(np.int64), 1, max(1, units - 1))
        size = np.where(ordinal == 0, 0, sizes[np.maximum(ordinal - 1, 0) // self.config.samples])
        return draw_subsets(self.keys, image, ordinal, units, size)

    def fold(self, block: Block, reading: Reading) -> None:
        device = self.scores.device
        self.scores[on_device(block.image, device), on_device(block.ordinal, device)] = reading.scores

    def finish(self) -> Mapping[str, Tensor]:
        shares, samples = self.config.hidden_shares(), self.config.samples
        images, methods, targets = self.maps.shape[:3]
        scores = self.scores.double().cpu().numpy()
        found = np.full((images, methods, targets, len(shares)), np.nan)
        for image in range(images):
            sums = self._sums(image)
            falls = scores[image, :1] - scores[image, 1:]  # [rows - 1, K]
            for place in np.ndindex(methods, targets, len(shares)):
                method, target, size = place
                rows = slice(size * samples, (size + 1) * samples)
                found[image][place] = self.config.value(sums[method, target, rows], falls[rows, target])
        return {"": torch.from_numpy(_mean(found)), CURVE: torch.from_numpy(found)}

    def _sums(self, image: int) -> Values:
        """Sums of the maps of one image over what each row but the first hides: float64 [M, K, rows - 1].

        A few rows at a time: the subsets of single pixels take 50 kB each.
        """
        of_units = self.units.sums(image, self.maps[image])
        parts = []
        for rows in np.array_split(np.arange(1, self.count), -(-self.count // 64)):
            hidden = self._subsets(image, rows).astype(np.float64)
            parts.append(np.einsum("mku,ru->mkr", of_units, hidden))
        return np.concatenate(parts, axis=-1)


def _mean(values: Values) -> Values:
    """Mean over the last axis of what is defined; NaN where nothing is."""
    defined = ~np.isnan(values)
    count = defined.sum(axis=-1)
    total = np.where(defined, values, 0.0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
