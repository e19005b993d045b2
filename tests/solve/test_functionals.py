"""Closed forms against sums over all coalitions of a few segments."""

from __future__ import annotations

from math import factorial

import pytest
import torch
from torch import Tensor

from fastxai.solve import LimeCoefficients, ShapleyValues, cosine_kernel

SEGMENTS = 7
CPU = torch.device("cpu")
ALL = torch.tensor([[row >> s & 1 for s in range(SEGMENTS)] for row in range(2**SEGMENTS)], dtype=torch.float64)


def lime_by_hand() -> Tensor:
    """Values at all coalitions -> coefficients of the weighted least-squares fit, [S, 2^S]."""
    counts = torch.tensor([SEGMENTS])
    weights = cosine_kernel(ALL.sum(1).long()[None], counts, 0.25)[0]
    design = torch.cat([ALL, torch.ones(len(ALL), 1, dtype=torch.float64)], 1)
    return torch.linalg.solve(design.T @ (weights[:, None] * design), design.T * weights)[:-1]


def shapley_by_hand() -> Tensor:
    """Values at all coalitions -> Shapley values, [S, 2^S]."""
    found = torch.zeros(SEGMENTS, len(ALL), dtype=torch.float64)
    for row, coalition in enumerate(ALL.tolist()):
        size = int(sum(coalition))
        for s, kept in enumerate(coalition):
            others = size - 1 if kept else size
            share = factorial(others) * factorial(SEGMENTS - others - 1) / factorial(SEGMENTS)
            found[s, row] = share if kept else -share
    return found


CASES = [
    pytest.param(lambda: LimeCoefficients(SEGMENTS, 0.25, CPU), lime_by_hand, id="lime"),
    pytest.param(lambda: ShapleyValues(SEGMENTS, CPU), shapley_by_hand, id="shapley"),
]


@pytest.mark.parametrize(("functional", "by_hand"), CASES)
def test_games_that_are_products(functional, by_hand):
    generator = torch.Generator().manual_seed(0)
    low, high = torch.rand(2, 300, SEGMENTS, generator=generator, dtype=torch.float64) + 0.5
    games = torch.where(ALL[None] > 0, high[:, None], low[:, None]).prod(-1)
    found, _ = functional().of_products(low, high)
    torch.testing.assert_close(found, games @ by_hand().T, rtol=1e-10, atol=1e-11)  # sums of 2^7 roundings


@pytest.mark.parametrize(("functional", "by_hand"), CASES)
def test_games_that_do_not_vary_have_no_effects(functional, by_hand):
    same = torch.full((1, SEGMENTS), 1.1, dtype=torch.float64)
    found, mean = functional().of_products(same, same)
    assert found.abs().max() < 1e-12
    assert mean.item() == pytest.approx(1.1**SEGMENTS)


@pytest.mark.parametrize(("functional", "by_hand"), CASES)
def test_variance_of_a_random_game(functional, by_hand):
    relevance = torch.rand(SEGMENTS, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.6
    signs = 2 * ALL - 1
    covariance = (1 + relevance * signs[:, None] * signs[None]).prod(-1)
    hand = by_hand()
    wanted = (hand @ covariance @ hand.T).diagonal()
    torch.testing.assert_close(functional().of_kernel(relevance), wanted, rtol=1e-9, atol=1e-10)  # of 2^14 terms


@pytest.mark.parametrize("segments", [1, 2, 33, 150])
def test_any_number_of_segments(segments):
    half = torch.full((1, segments), 0.5, dtype=torch.float64)
    for functional in (LimeCoefficients(segments, 0.25, CPU), ShapleyValues(segments, CPU)):
        found, mean = functional.of_products(half * 0.99, half * 1.01)
        assert found.shape == (1, segments)
        assert torch.isfinite(found).all()
        assert torch.isfinite(mean).all()
