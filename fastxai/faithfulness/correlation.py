"""Correlations that say so where there is none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_EQUAL = 1e-9  # of the size of the numbers: a spread that is nothing but rounding


def pearson(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Pearson's correlation of two [n]; NaN where one of them is constant up to rounding, or not finite."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("nan")
    if any(np.ptp(side) <= _EQUAL * np.abs(side).max() for side in (a, b)):
        return float("nan")
    left, right = a - a.mean(), b - b.mean()
    return float(np.clip((left @ right) / np.sqrt((left @ left) * (right @ right)), -1.0, 1.0))


def spearman(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Spearman's rank correlation of two maps of one shape, ties with their mean rank; NaN where one is constant."""
    from scipy.stats import rankdata

    return pearson(*(rankdata(side.ravel()).astype(np.float64) for side in (a, b)))
