"""The bootstrap interval: on samples of known spread, reproducible, and without warnings where it degenerates."""

from __future__ import annotations

import numpy as np
import pytest

from fastxai.measures import summarise


def test_mean_median_and_count_leave_nan_out() -> None:
    found = summarise(np.array([0.1, np.nan, 0.2, 0.6]))
    assert (found.count, found.median) == (3, 0.2)
    assert found.mean == np.mean([0.1, 0.2, 0.6])


@pytest.mark.parametrize("size", [30, 400, 5_000])
def test_the_interval_is_that_of_the_normal_mean(size: int) -> None:
    drawn = np.random.default_rng(1).normal(0.0, 0.1, size // 2)
    values = 0.3 + np.concatenate([drawn, -drawn])  # symmetric: BCa has no skewness to correct
    found = summarise(values)
    assert found.interval is not None
    error = values.std(ddof=1) / np.sqrt(size)
    wanted = values.mean() - 1.96 * error, values.mean() + 1.96 * error
    # The ends of 1,999 resamples scatter by 6 % of the standard error, small samples narrow by 1 / (2 N) more; 0.25
    # of a standard error is four of those, and would not let a 90 % or 99 % interval pass (0.3 and 0.6 away).
    assert np.abs(np.array(found.interval) - wanted).max() < 0.25 * error
    assert summarise(values) == found


@pytest.mark.parametrize("values", [[0.5, 0.5, 0.5], [0.1 + 0.2, 0.3, 0.3], [0.0, 0.0], [1e-300, 1e-300]])
def test_equal_values_have_an_interval_of_no_width(values: list[float]) -> None:
    found = summarise(np.array(values))
    assert found.interval == (found.mean, found.mean)


def test_small_and_lopsided_samples_always_have_an_interval() -> None:
    rng = np.random.default_rng(0)
    samples = [np.array(pair) for pair in ([0.1, 0.2], [0.0, 1.0], [0, 0, 0, 0, 0, 0, 0, 0, 0, 1e-9], [0.3, 0.3, 0.4])]
    samples += [rng.choice([0.0, 0.0, 0.5, 1.0], size=rng.integers(2, 12)) for _ in range(10)]
    for values in samples:
        found = summarise(values)
        assert found.interval is not None
        low, high = found.interval
        assert values.min() <= low <= high <= values.max()


@pytest.mark.parametrize("values", [[], [np.nan, np.nan], [0.4]])
def test_fewer_than_two_values_have_no_interval(values: list[float]) -> None:
    assert summarise(np.array(values)).interval is None
