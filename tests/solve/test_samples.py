"""Samples of coalitions: exact where they are all there, near it where they are not."""

from __future__ import annotations

import pytest
import torch

from fastxai.solve import Functional, LimeCoefficients, ShapleyValues
from fastxai.solve.samples import ROWS
from tests.solve.test_functionals import CPU, SEGMENTS, lime_by_hand, shapley_by_hand

MANY = 20


def functionals(segments: int) -> list[Functional]:
    return [LimeCoefficients(segments, 0.25, CPU), ShapleyValues(segments, CPU)]


def products(functional: Functional, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Games with factors low and high [n, S] on the functional's sample, [m, n]."""
    signs = functional.sample.signs
    return torch.where(signs[:, None] > 0, high, low).prod(-1)


def test_all_coalitions_of_few_segments():
    """Any game's report, [S, 2^S] by hand."""
    values = torch.randn(2**SEGMENTS, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for functional, by_hand in zip(functionals(SEGMENTS), (lime_by_hand(), shapley_by_hand()), strict=True):
        sample = functional.sample
        assert len(sample.signs) == 2**SEGMENTS
        index = (sample.signs > 0).long() @ (2 ** torch.arange(SEGMENTS))
        assert sorted(index.tolist()) == list(range(2**SEGMENTS))
        torch.testing.assert_close(sample.estimator @ values[index], by_hand @ values)


@pytest.mark.parametrize("segments", [1, 2, 3])
def test_hardly_any_segments(segments):
    for functional in functionals(segments):
        sample = functional.sample
        assert torch.isfinite(sample.estimator).all()
        additive = sample.signs @ torch.arange(1.0, segments + 1, dtype=torch.float64)
        wanted = 2 * torch.arange(1.0, segments + 1, dtype=torch.float64)
        torch.testing.assert_close(sample.estimator @ additive, wanted)


@pytest.mark.parametrize("segments", [14, 15, 16])
def test_all_coalitions_are_there_or_the_sample_is_a_draw(segments):
    """With 15 segments there are as many coalitions as would be drawn: each is there once."""
    for functional in functionals(segments):
        sample = functional.sample
        index = (sample.signs > 0).long() @ (2 ** torch.arange(segments))
        every = len(index) == 2**segments and len(index.unique()) == 2**segments
        assert sample.all == every == (segments <= 15)


def test_additive_games_are_met_exactly():
    effects = torch.randn(MANY, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for functional in functionals(MANY):
        sample = functional.sample
        assert len(sample.signs) == ROWS and not sample.all
        report, variance, mean = sample.report((3 + sample.signs.double() @ effects)[:, None])
        torch.testing.assert_close(report[0], 2 * effects)
        assert variance.max() < 1e-12
        torch.testing.assert_close(mean, (3 + (2 * functional.mean - 1) * effects.sum())[None], rtol=0.02, atol=0)


def test_other_games_are_met_as_nearly_as_is_said():
    """Reports and means of products, whose closed form is known, against the stated variance of the draw."""
    low = 1 + 0.3 * torch.randn(8, MANY, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    high = low.flip(0)
    for functional in functionals(MANY):
        sample, games = functional.sample, products(functional, low, high)
        exact, means = functional.of_products(low, high)
        assert sample.shares.sum().item() == pytest.approx(1)
        report, variance, mean = sample.report(games)
        missed = (report - exact).norm(dim=1)
        assert (missed < 0.1 * exact.norm(dim=1)).all()
        assert 0.5 < (missed**2 / variance.sum(1)).mean() < 2
        spread = (sample.shares @ (games - means) ** 2).sqrt()
        assert ((mean - means).abs() < 0.05 * spread).all()


def test_the_same_sample_every_time():
    for functional, again in zip(functionals(MANY), functionals(MANY), strict=True):
        assert torch.equal(functional.sample.signs, again.sample.signs)
