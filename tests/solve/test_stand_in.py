"""The stand-in: close to a game from few of its values, and honest about how close."""

from __future__ import annotations

import pytest
import torch

from fastxai.solve import LimeCoefficients, ShapleyValues, cosine_kernel, report_by_stand_in
from tests.solve.test_functionals import ALL, CPU, SEGMENTS, lime_by_hand, shapley_by_hand


def game(seed: int) -> torch.Tensor:
    """A game of main effects, pairs and triples that get smaller, [2^S]."""
    generator = torch.Generator().manual_seed(seed)
    signs = 2 * ALL - 1
    pairs = torch.randn(SEGMENTS, SEGMENTS, generator=generator, dtype=torch.float64) * 0.2
    single = torch.randn(SEGMENTS, generator=generator, dtype=torch.float64)
    triple = signs[:, 0] * signs[:, 2] * signs[:, 5]
    return 0.3 + signs @ single + ((signs @ pairs) * signs).sum(1) + 0.1 * triple


def rows(seed: int, count: int) -> torch.Tensor:
    return torch.randperm(len(ALL), generator=torch.Generator().manual_seed(seed))[:count]


def test_all_values_give_the_reports_themselves():
    values = torch.stack([game(0), game(1)], 1)
    for functional, by_hand in (
        (LimeCoefficients(SEGMENTS, 0.25, CPU), lime_by_hand()),
        (ShapleyValues(SEGMENTS, CPU), shapley_by_hand()),
    ):
        found = report_by_stand_in(ALL > 0, values, functional)
        wanted = (by_hand @ values).T
        assert (found.weights - wanted).norm() < 0.01 * wanted.norm()  # the nugget leaves a trace
        assert found.weights.shape == found.stderr.shape == (2, SEGMENTS)


def test_standard_errors_cover():
    """Of 90% intervals from 48 of 128 values, for 30 games: 80% at least hold the true value, and are narrow."""
    inside, widths, sizes = [], [], []
    functional, by_hand = ShapleyValues(SEGMENTS, CPU), shapley_by_hand()
    for seed in range(30):
        values, some = game(seed), rows(seed, 48)
        found = report_by_stand_in(ALL[some] > 0, values[some, None], functional)
        wanted = by_hand @ values
        inside.append(((found.weights[0] - wanted).abs() <= 1.645 * found.stderr[0]).double().mean())
        widths.append(found.stderr[0].norm())
        sizes.append(wanted.norm())
    assert torch.stack(inside).mean() > 0.8  # 90 stated; games made by hand are not of the assumed kind
    assert (torch.stack(widths) / torch.stack(sizes)).median() < 0.2


def test_fewer_errors_than_the_linear_fit():
    functional, by_hand = LimeCoefficients(SEGMENTS, 0.25, CPU), lime_by_hand()
    better = 0
    for seed in range(10):
        values, some = game(seed), rows(seed, 40)
        design = torch.cat([ALL[some], torch.ones(40, 1, dtype=torch.float64)], 1)
        linear = torch.linalg.lstsq(design, values[some, None]).solution[:-1, 0]
        wanted = by_hand @ values
        found = report_by_stand_in(ALL[some] > 0, values[some, None], functional).weights[0]
        better += bool((found - wanted).norm() < (linear - wanted).norm())
    assert better >= 9


def test_values_that_do_not_vary():
    found = report_by_stand_in(ALL > 0, torch.full((len(ALL), 1), 0.25), LimeCoefficients(SEGMENTS, 0.25, CPU))
    assert found.weights.abs().max() < 1e-9
    assert found.mean.item() == 0.25
    assert torch.isfinite(found.stderr).all()


def probabilities(seed: int) -> torch.Tensor:
    """A game that is smooth as a logit, [2^S]: flat at both ends as a probability."""
    return (1.5 * game(seed) - 1).sigmoid()


def test_probabilities_are_looked_at_as_logits():
    """Half the error of the same game times 10, which is none of probabilities and left as it is."""
    for functional, by_hand in (
        (LimeCoefficients(SEGMENTS, 0.25, CPU), lime_by_hand()),
        (ShapleyValues(SEGMENTS, CPU), shapley_by_hand()),
    ):
        ratios = []
        for seed in range(10):
            values, some = probabilities(seed), rows(seed, 48)
            wanted = by_hand @ values
            found = report_by_stand_in(ALL[some] > 0, values[some, None], functional).weights[0]
            straight = report_by_stand_in(ALL[some] > 0, 10 * values[some, None], functional).weights[0] / 10
            ratios.append((found - wanted).norm() / (straight - wanted).norm())
        assert torch.stack(ratios).median() < 0.5


def test_standard_errors_cover_probabilities():
    inside = []
    functional, by_hand = LimeCoefficients(SEGMENTS, 0.25, CPU), lime_by_hand()
    for seed in range(30):
        values, some = probabilities(seed), rows(seed, 48)
        found = report_by_stand_in(ALL[some] > 0, values[some, None], functional)
        inside.append(((found.weights[0] - by_hand @ values).abs() <= 1.645 * found.stderr[0]).double().mean())
    assert torch.stack(inside).mean() > 0.8


def test_a_mean_of_probabilities_is_their_mean():
    """LIME's weighted mean, which its intercept follows from."""
    values = probabilities(0)
    found = report_by_stand_in(ALL > 0, values[:, None], LimeCoefficients(SEGMENTS, 0.25, CPU))
    weights = cosine_kernel(ALL.sum(1).long()[None], torch.tensor([SEGMENTS]), 0.25)[0]
    assert found.mean.item() == pytest.approx(float(weights @ values / weights.sum()), rel=1e-2)
