"""One number per image -> mean, median and how sure the mean is."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
SEED = 0  # the interval of the same values is always the same
_BCA_LIMIT = 1_000  # images; the jackknife of BCa grows with their square, its correction vanishes like 1 / N
_DRAWS_AT_ONCE = 10_000_000  # resampled values in memory, 80 MB


@dataclass(frozen=True)
class Summary:
    """Mean and median of `count` values, and the bootstrap interval of the mean (None below two values).

    Without any value, mean and median are NaN.
    """

    count: int
    mean: float
    median: float
    interval: tuple[float, float] | None


def summarise(values: np.ndarray) -> Summary:
    """Summarise float64 [N]; NaN (nothing to measure in that image) does not count.

    The interval is the 95 % bootstrap interval of the mean (`scipy.stats.bootstrap`, fixed seed): bias-corrected and
    accelerated (Efron 1987) up to 1,000 values, percentile above.
    """
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    if values.size == 0:
        return Summary(0, float("nan"), float("nan"), None)
    return Summary(int(values.size), float(values.mean()), float(np.median(values)), _interval(values))


def _interval(values: np.ndarray) -> tuple[float, float] | None:
    if values.size < 2:
        return None
    spread = float(np.ptp(values))
    if spread <= 1e-12 * float(np.abs(values).max()):  # equal up to rounding: every resample has the same mean
        return float(values.mean()), float(values.mean())
    if values.size <= _BCA_LIMIT:
        low, high = _bootstrap(values, "BCa", 9_999)
        if np.isfinite(low) and np.isfinite(high):
            return low, high
        # BCa is undefined where no resample falls on one side of the mean; percentiles always exist.
        return _bootstrap(values, "percentile", 9_999)
    return _bootstrap(values, "percentile", 1_999)


def _bootstrap(values: np.ndarray, method: str, resamples: int) -> tuple[float, float]:
    from scipy import stats  # takes half a second to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # answered above, by the percentile interval
        found = stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=resamples,
            batch=max(1, _DRAWS_AT_ONCE // values.size),
            confidence_level=CONFIDENCE,
            method=method,
            rng=np.random.default_rng(SEED),
        )
    ends = np.array([found.confidence_interval.low, found.confidence_interval.high])
    low, high = ends.clip(values.min(), values.max())  # a mean of equal values may round past them
    return float(low), float(high)
