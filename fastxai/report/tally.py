"""Numbers of every image that the page sorts, filters and sums up by, gathered while a run is read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from fastxai.measures.table import printable
from fastxai.ops import overlap
from fastxai.report.comparison import Comparison
from fastxai.results import Found


class Tally:
    """Columns with one entry an explained image: some hundred bytes each, whatever the pictures' size."""

    def __init__(self, methods: Sequence[str], target: int) -> None:
        self.methods, self.target = tuple(methods), target
        self.pairs = list(combinations(range(len(self.methods)), 2))
        self.ids: list[str] = []
        self.numbers: list[int] = []  # the image's place in the run
        self.predicted: list[int] = []
        self.confidence: list[float] = []
        self.targets: list[int] = []
        self.labels: list[int] = []
        self.failures: list[tuple[str, str]] = []
        self._iou: list[list[float]] = []
        self._correlation: list[list[float]] = []

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def iou(self) -> np.ndarray:
        """float64 [images, pairs], NaN where there is nothing to compare."""
        return np.array(self._iou, dtype=np.float64).reshape(len(self), len(self.pairs))

    @property
    def correlation(self) -> np.ndarray:
        """Spearman's rank correlation of the maps, float64 [images, pairs], NaN as above or for a constant map."""
        return np.array(self._correlation, dtype=np.float64).reshape(len(self), len(self.pairs))

    def fail(self, image_id: str, reason: str) -> None:
        """Take in an image that could not be explained."""
        self.failures.append((printable(image_id), printable(reason)))

    def add(self, found: Found, place: int, number: int, masks: Mapping[str, Tensor]) -> None:
        """Take in one explained image; `masks` are those of its finite maps."""
        self.ids.append(printable(found.ids[place]))
        self.numbers.append(number)
        self.predicted.append(int(found.predictions[place, 0]))
        self.confidence.append(round(float(found.probabilities[place, 0]), 4))
        self.targets.append(int(found.targets[place, self.target]))
        self.labels.append(int(found.labels[place]))
        ranks = {name: _ranks(found[name].maps[place, self.target]) for name in masks}
        names = [(self.methods[a], self.methods[b]) for a, b in self.pairs]
        whole = [a in masks and b in masks for a, b in names]
        self._iou.append(
            [
                float(overlap(masks[a], masks[b])[0]) if good else float("nan")
                for (a, b), good in zip(names, whole, strict=True)
            ]
        )
        self._correlation.append(
            [_product(ranks[a], ranks[b]) if good else float("nan") for (a, b), good in zip(names, whole, strict=True)]
        )


def masks_of(found: Found, place: int, target: int, compare: Comparison) -> dict[str, Tensor]:
    """bool [H, W] by method, without the methods whose map of this image is not finite."""
    results = {name: found[name][place] for name in found}
    return {
        name: compare.mask(result)[target]
        for name, result in results.items()
        if bool(torch.isfinite(result.maps[target]).all())
    }


def _ranks(values: Tensor) -> np.ndarray:
    """Ranks of a map's pixels, ties sharing their mean, centred and of length 1; zeros for a constant map."""
    from scipy.stats import rankdata  # takes half a second to import

    ranks = rankdata(values.float().numpy(), axis=None)
    ranks -= ranks.mean()
    length = float(np.linalg.norm(ranks))
    return ranks / length if length > 0 else np.zeros_like(ranks)


def _product(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rho of two maps from their ranks; NaN where one is constant."""
    return float(a @ b) if a.any() and b.any() else float("nan")
