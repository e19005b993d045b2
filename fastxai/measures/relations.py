"""Whether images with more of one thing have more of another: rank correlation over images, and how sure it is."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastxai.errors import ArgumentError
from fastxai.measures.summary import CONFIDENCE, SEED
from fastxai.measures.text import finite

FEWEST = 8  # images; of fewer, some resamples hold one image only, and have no correlation
_RESAMPLES = 9_999
_DRAWS_AT_ONCE = 2_000_000  # resampled values in memory: ranking copies them a few times


@dataclass(frozen=True)
class Relation:
    """Spearman's rank correlation of two values over `count` images, and its 95 % bootstrap interval.

    rho is NaN where one of the two is constant; interval is None below 8 images, and where a resample of the images
    has none.
    """

    count: int
    rho: float
    interval: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON data."""
        return {
            "count": self.count,
            "rho": finite(self.rho),
            "interval": None if self.interval is None else list(self.interval),
            "confidence": CONFIDENCE,
        }


def relate(first: ArrayLike, second: ArrayLike) -> Relation:
    """The rank correlation of two values of N images, float [N] both; an image where one is NaN does not count.

    The interval is that of `scipy.stats.bootstrap` over images, in pairs, by percentiles, with a fixed seed.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ArgumentError(f"values must be two vectors of one length, got {a.shape} and {b.shape}")
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known], b[known]
    if len(a) < 2:
        return Relation(len(a), float("nan"), None)
    return Relation(len(a), float(_rho(a, b)), _interval(a, b))


def _interval(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, float] | None:
    if len(first) < FEWEST or np.isnan(_rho(first, second)):
        return None
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # answered below: there is no interval
        found = stats.bootstrap(
            (first, second),
            _rho,
            paired=True,
            vectorized=True,
            n_resamples=_RESAMPLES,
            batch=max(1, _DRAWS_AT_ONCE // len(first)),
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(SEED),
        )
    low, high = found.confidence_interval.low, found.confidence_interval.high
    return (float(low), float(high)) if np.isfinite(low) and np.isfinite(high) else None


def _rho(first: NDArray[np.float64], second: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Spearman's correlation along an axis; NaN where a side is constant."""
    from scipy.stats import rankdata

    a, b = (rankdata(values, axis=axis) for values in (first, second))
    middle = (first.shape[axis] + 1) / 2
    a, b = a - middle, b - middle
    scale = np.sqrt((a * a).sum(axis) * (b * b).sum(axis))
    constant = scale == 0
    rho: NDArray[np.float64] = np.where(constant, np.nan, (a * b).sum(axis) / np.where(constant, 1, scale))
    return rho
