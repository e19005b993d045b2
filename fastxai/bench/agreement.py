"""How much two sets of results say the same: rank correlation, and overlap of the ten strongest segments."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxai.bench.peers import Answer
from fastxai.results import Found, MethodResult

Numbers = NDArray[np.floating[Any]]
TOP = 10


@dataclass(frozen=True)
class Agreement:
    """Two sets of results side by side.

    rank_correlation: Spearman's, mean over pictures and classes, `lowest` the worst of them; top10: mean share of the
    ten strongest segments that are in both tens. None where fewer than two segments left nothing to rank. pairs: maps
    compared, those of a class that only one side explained left out.
    """

    rank_correlation: float | None
    lowest: float | None
    top10: float | None
    pairs: int

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def compare(
    first: Sequence[Answer], second: Sequence[Answer], labels: Sequence[NDArray[np.integer[Any]]], method: str
) -> Agreement:
    """Answers of one method to the same pictures, by class; labels [H, W] of each picture.

    LIME: signed segment weights, the strongest are the most positive. GradientSHAP: mean |map| of each segment.
    Grad-CAM: the maps themselves are ranked pixel by pixel, and the ten are those with the largest mean.
    """
    correlations, overlaps, pairs = [], [], 0
    for one, other, segments in zip(first, second, labels, strict=False):
        for target in one.keys() & other.keys():
            pairs += 1
            a, b = (at_segments(answer[target], segments) for answer in (one, other))
            pixels = method == "gradcam"
            ranked = (one[target].ravel(), other[target].ravel()) if pixels else (a, b)
            correlations.append(rank_correlation(*ranked))
            overlaps.append(top_overlap(a, b))
    return Agreement(
        _over(statistics.mean, correlations), _over(min, correlations), _over(statistics.mean, overlaps), pairs
    )


def at_segments(values: Numbers, labels: NDArray[np.integer[Any]]) -> Numbers:
    """Segment weights [S] as they are; of a map [H, W], the mean absolute value over each segment of labels [H, W]."""
    if values.ndim == 1:
        return values
    sums = np.bincount(labels.ravel(), weights=np.abs(values).ravel())
    means: Numbers = sums / np.bincount(labels.ravel()).clip(1)
    return means


def rank_correlation(first: Numbers, second: Numbers) -> float:
    """Spearman's rank correlation of two vectors of one length, ties at their mean rank; NaN where one is constant."""
    from scipy.stats import rankdata

    if len(first) != len(second):
        raise ValueError(f"vectors must be of one length, got {len(first)} and {len(second)}")
    a, b = (rankdata(values) - (len(values) + 1) / 2 for values in (first, second))
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else math.nan


def top_overlap(first: Numbers, second: Numbers) -> float:
    """Share of the ten largest of one vector that are among the ten of the other; of all, where there are fewer."""
    count = min(TOP, len(first))
    if len(first) < 2:
        return math.nan
    a, b = (set(np.argsort(-values, kind="stable")[:count].tolist()) for values in (first, second))
    return len(a & b) / count


def answers(found: Found, name: str) -> list[Answer]:
    """Our results as a peer would give them, one entry a picture, by class; nothing for a picture that failed."""
    result = found[name]
    return [_answer(result, i, found.targets[i].tolist()) for i in range(len(found))]


def _answer(result: MethodResult, index: int, targets: Sequence[int]) -> Mapping[int, Numbers]:
    given: dict[int, Numbers] = {}
    for place, target in enumerate(targets):
        if target < 0:
            continue
        if "weights" in result.data:
            assert result.counts is not None
            given[target] = result.weights[index, place, : int(result.counts[index])].numpy()
        else:
            given[target] = result.maps[index, place].numpy()
    return given


def _over(reduce: Callable[[list[float]], float], values: list[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return float(reduce(known)) if known else None
