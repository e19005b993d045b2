import numpy as np
import pytest
import torch

import fastxai as fx
from fastxai.errors import ArgumentError
from fastxai.explainers import EXPLAINERS, IntegratedGradients
from fastxai.explainers.integrated_gradients import RULES, quadrature

from .conftest import explain, gradients, normalized


@pytest.mark.parametrize("rule", RULES)
def test_rules_integrate_polynomials(rule):
    nodes, weights = (part.double() for part in quadrature(rule, 6))
    assert abs(weights.sum() - 1) < 1e-6
    assert (nodes.min() >= 0) and (nodes.max() <= 1)
    # exact up to this degree: 2 n - 1 for Gauss; 1 for rules symmetric about 1/2; 0 for one-sided ones
    exact = {"gausslegendre": 11, "riemann_middle": 1, "riemann_trapezoid": 1}.get(rule, 0)
    for degree in range(exact + 1):
        assert abs((weights * nodes**degree).sum() - 1 / (degree + 1)) < 1e-6  # float32 nodes and weights
    missed = (weights * nodes ** (exact + 1)).sum() - 1 / (exact + 2)
    assert abs(missed) > (1e-8 if rule == "gausslegendre" else 1e-3)


@pytest.mark.parametrize("baseline", ["black", "mean", "blur", "picture"])
@pytest.mark.parametrize("rule", RULES)
def test_a_linear_model_is_complete(linear, noise_pictures, rule, baseline):
    """The gradient is the same everywhere, so every rule gives (x - b) times the weights."""
    pictures = noise_pictures(3)
    given = noise_pictures(4)[3:] if baseline == "picture" else baseline
    config = IntegratedGradients(steps=4, rule=rule, baseline=given, attributions=True)
    found = explain(linear, pictures[:2], config, targets="all")
    assert found.delta.abs().max() < 2e-4  # sums of 1,728 float32 products of size 0.1
    if baseline == "picture":
        wanted = (normalized(linear, pictures[:2]) - normalized(linear, given)).unsqueeze(
            1
        ) * linear.module.weight.detach()
        np.testing.assert_allclose(found.attributions.numpy(), wanted.numpy(), atol=1e-6)


def test_the_formula_on_a_network(convolutional, noise_pictures):
    pictures = noise_pictures(2)
    config = IntegratedGradients(steps=5, attributions=True)
    found = explain(convolutional, pictures, config, targets=[[1, 4]] * 2)
    x, black = normalized(convolutional, pictures), normalized(convolutional, torch.zeros(1, 3, 24, 24))
    nodes, weights = np.polynomial.legendre.leggauss(5)
    for place, target in enumerate((1, 4)):
        total = torch.zeros_like(x)
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            total += float(weight) * gradients(convolutional, black + float(node) * (x - black), target)
        wanted = (x - black) * total
        # float32 sums of 5 gradients of size 1e-3 times differences of size 3
        np.testing.assert_allclose(found.attributions[:, place].numpy(), wanted.numpy(), atol=1e-7)
        ends = convolutional.module(x)[:, target] - convolutional.module(black)[:, target]
        delta = wanted.sum((1, 2, 3)) - ends
        np.testing.assert_allclose(found.delta[:, place].numpy(), delta.detach().numpy(), atol=2e-6)


def test_completeness_comes_with_steps(convolutional, noise_pictures):
    pictures = noise_pictures(3)
    rough, fine = (
        explain(convolutional, pictures, IntegratedGradients(steps=steps)).delta.abs().max() for steps in (2, 200)
    )
    whole = explain(convolutional, pictures, IntegratedGradients()).maps.sum((2, 3)).abs().max()
    assert fine < 0.01 * whole
    assert fine < 0.1 * rough


def test_the_number_of_model_calls_is_exact(counted, noise_pictures):
    settings = fx.Settings(precision="fp32", rows={"predict": 4, "scores": 8, "gradients": 5})
    config = IntegratedGradients(steps=5)
    assert config.row_count(3) == {"gradients": 5, "scores": 1}
    explain(counted, noise_pictures(3), config, targets="top3", settings=settings)
    # a prediction, 15 points in 3 chunks, and one score of black for all
    assert counted.module.seen[-5:] == [4, 5, 5, 5, 8]
    counted.module.seen.clear()
    off = explain(counted, noise_pictures(3), IntegratedGradients(steps=5, delta=False), settings=settings)
    assert counted.module.seen[-4:] == [4, 5, 5, 5]
    assert torch.isnan(off.delta).all()


def test_configuration_round_trips():
    config = IntegratedGradients(steps=7, rule="riemann_left", baseline="blur", delta=False)
    assert EXPLAINERS.from_dict(config.to_dict()) == config
    assert EXPLAINERS.parse("integrated-gradients:steps=7,rule=riemann_left,baseline=blur,delta=false") == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 1, "rule": "riemann_trapezoid"}, "steps must be at least 2"),
        ({"rule": "simpson"}, "rule must be one of gausslegendre, riemann_left"),
        ({"baseline": "random"}, "baseline must be one for all points"),
        ({"blur": 0}, "blur must be a number above 0"),
        ({"delta": "auto"}, "delta must be True or False"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        IntegratedGradients(**options)


def test_several_baselines_are_refused(linear, noise_pictures):
    with pytest.raises(ArgumentError, match="baseline must be one picture, got 2: expected-gradients"):
        explain(linear, noise_pictures(1), IntegratedGradients(baseline=noise_pictures(2)))
