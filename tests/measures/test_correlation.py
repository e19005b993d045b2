"""Correlations against scipy, overlap of the largest against sets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from fastxai.measures.correlation import pearson, ragged, ranks, spearman, top_overlap


def vectors(ties: bool) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(4)
    a = rng.normal(size=(5, 61)).astype(np.float32)
    b = (0.4 * a + rng.normal(size=(5, 61))).astype(np.float32)
    if ties:  # as after the relu of a class activation map
        a, b = np.maximum(a, 0), np.round(b)
    return torch.from_numpy(a), torch.from_numpy(b)


@pytest.mark.parametrize("ties", [False, True])
def test_both_correlations_are_those_of_scipy(ties: bool) -> None:
    a, b = vectors(ties)
    for mine, theirs in ((pearson, stats.pearsonr), (spearman, stats.spearmanr)):
        found = mine(a, b)
        assert found.dtype == torch.float64
        wanted = [theirs(x.double().numpy(), y.double().numpy()).statistic for x, y in zip(a, b, strict=True)]
        # both in float64, summed in another order
        assert np.allclose(found.numpy(), wanted, rtol=0, atol=1e-12)


def test_known_answers() -> None:
    a = torch.tensor([[1.0, 2, 3, 4], [1.0, 2, 3, 4], [1.0, 1, 1, 1]])
    b = torch.tensor([[1.0, 4, 9, 16], [4.0, 3, 2, 1], [1.0, 2, 3, 4]])
    assert spearman(a, b)[:2].tolist() == [1.0, -1.0]
    assert pearson(a, b)[1] == pytest.approx(-1.0)
    assert math.isnan(spearman(a, b)[2])
    assert math.isnan(pearson(a, b)[2])


def test_a_constant_is_constant_whatever_its_mean_rounds_to() -> None:
    constant = torch.full((1, 50_176), 0.1)
    other = torch.arange(50_176.0)[None]
    assert math.isnan(pearson(constant, other)[0])
    assert math.isnan(pearson(other, constant)[0])


def test_ranks_are_exact_at_the_size_of_a_map() -> None:
    values = torch.zeros(1, 299 * 299)
    values[0, -3:] = torch.tensor([1.0, 2.0, 2.0])
    size = values.shape[1]
    found = ranks(values)[0]
    assert found[0] == (size - 3 + 1) / 2
    assert found[-3:].tolist() == [size - 2, size - 0.5, size - 0.5]


def test_top_overlap_is_that_of_sets() -> None:
    a, b = vectors(True)
    found = top_overlap(a, b, 10)
    for row in range(len(a)):
        one, two = (set(sorted(range(61), key=lambda i, v=v: (-float(v[row, i]), i))[:10]) for v in (a, b))
        assert found[row] == len(one & two) / 10


def test_top_overlap_of_no_choice_is_not_defined() -> None:
    a, b = vectors(False)
    assert top_overlap(a, b, 61).isnan().all()
    assert top_overlap(a, a, 60).tolist() == [1.0] * 5


def test_ragged_rows_are_measured_alone() -> None:
    a, b = vectors(False)
    counts = torch.tensor([61, 3, 17, 2, 40])
    found = ragged(pearson, a, b, counts)
    for row, count in enumerate(counts.tolist()):
        assert found[row] == pearson(a[row : row + 1, :count], b[row : row + 1, :count])[0]
