"""Rank correlation over images: scipy's, with an interval that knows when there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fastxai.errors import ArgumentError
from fastxai.measures import relate
from fastxai.measures.relations import FEWEST


def drawn(size: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(size)
    first = rng.normal(size=size)
    return first, strength * first + np.sqrt(1 - strength**2) * rng.normal(size=size)


@pytest.mark.parametrize("size", [9, 200])
def test_rho_is_scipys(size: int) -> None:
    first, second = drawn(size, 0.5)
    second = np.round(second, 1)  # ties
    found = relate(first, second)
    assert found.count == size
    assert found.rho == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)
    assert relate(first, second) == found  # seeded


def test_the_interval_has_the_width_that_theory_gives_it() -> None:
    first, second = drawn(400, 0.5)
    found = relate(first, second)
    assert found.interval is not None
    low, high = found.interval
    assert low < found.rho < high
    # Fisher's z with the variance of Bonett and Wright (2000) for Spearman's rho; 15 % is over five times the error
    # of 9,999 resamples and lets neither a 90 % nor a 99 % interval pass (16 % narrower, 31 % wider)
    half = 1.96 * math.sqrt((1 + found.rho**2 / 2) / (400 - 3))
    assert math.atanh(high) - math.atanh(low) == pytest.approx(2 * half, rel=0.15)


def test_images_without_a_value_do_not_count() -> None:
    first, second = drawn(20, 0.8)
    first[3], second[7] = math.nan, math.nan
    kept = [i for i in range(20) if i not in (3, 7)]
    assert relate(first, second) == relate(first[kept], second[kept])
    assert relate(first, second).count == 18


def test_perfect_order_is_certain() -> None:
    first = np.arange(12.0)
    assert relate(first, first**3).rho == 1.0
    found = relate(first, -first)
    assert found.rho == -1.0
    assert found.interval == pytest.approx((-1.0, -1.0))


@pytest.mark.parametrize("size", [0, 1])
def test_no_two_images_have_no_relation(size: int) -> None:
    found = relate(np.arange(size, dtype=float), np.arange(size, dtype=float))
    assert (found.count, found.interval) == (size, None)
    assert math.isnan(found.rho)
    assert found.to_dict() == {"count": size, "rho": None, "interval": None, "confidence": 0.95}


def test_few_or_constant_images_have_no_interval() -> None:
    first, second = drawn(FEWEST - 1, 0.3)
    assert relate(first, second).interval is None
    assert not math.isnan(relate(first, second).rho)
    constant = relate(np.ones(30), drawn(30, 0.3)[0])
    assert math.isnan(constant.rho)
    assert constant.interval is None
    nearly = np.zeros(10)
    nearly[0] = 1.0  # a third of the resamples do not hold the one image that differs
    assert relate(nearly, np.arange(10.0)).interval is None


def test_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ArgumentError, match="values must be two vectors of one length"):
        relate(np.zeros(3), np.zeros(4))
