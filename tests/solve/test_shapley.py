"""The constrained regression: exact where all coalitions are there, efficient always."""

from __future__ import annotations

import torch

from fastxai import ops
from fastxai.sampling import shapley_coalitions
from fastxai.solve import shapley_regression
from tests.solve.test_functionals import ALL, SEGMENTS, shapley_by_hand

KEYS = torch.tensor([[1, 2], [3, 4], [5, 6]])


def answers(coalitions, games):
    """Values float32 [B, n, K] of games [2^S, K] at packed coalitions."""
    kept = ops.unpack(coalitions, SEGMENTS).long()
    return games[(kept << torch.arange(SEGMENTS)).sum(-1)].float()


def test_all_coalitions_give_the_shapley_values():
    games = torch.randn(len(ALL), 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    coalitions, weights = shapley_coalitions(KEYS[:1], torch.tensor([SEGMENTS]), len(ALL))
    assert len(ops.unpack(coalitions[0], SEGMENTS).unique(dim=0)) == len(ALL)
    found = shapley_regression(coalitions, weights, answers(coalitions, games), torch.tensor([SEGMENTS]))
    wanted = (shapley_by_hand() @ games).T
    torch.testing.assert_close(found[0].double(), wanted, rtol=1e-4, atol=1e-6)  # values and results are float32


def test_efficiency_with_fewer_rows_than_segments():
    games = torch.randn(len(ALL), 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    coalitions, weights = shapley_coalitions(KEYS[:1], torch.tensor([SEGMENTS]), 6)
    values = answers(coalitions, games)
    found = shapley_regression(coalitions, weights, values, torch.tensor([SEGMENTS]))
    torch.testing.assert_close(found.sum(-1)[0], values[0, 0] - values[0, 1], rtol=1e-5, atol=1e-6)


def test_an_image_does_not_depend_on_the_others():
    counts = torch.tensor([SEGMENTS, 40, 3])
    coalitions, weights = shapley_coalitions(KEYS, counts, 64)
    values = torch.randn(3, 64, 2, generator=torch.Generator().manual_seed(3))
    together = shapley_regression(coalitions, weights, values, counts)
    for image in range(3):
        one = slice(image, image + 1)
        alone, weight = shapley_coalitions(KEYS[one], counts[one], 64)
        found = shapley_regression(alone, weight, values[one], counts[one])
        assert torch.equal(found[0], together[image, :, : counts[image]])
        assert together[image, :, counts[image] :].isnan().all()
