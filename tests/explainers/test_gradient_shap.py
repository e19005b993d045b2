import numpy as np
import pytest
import torch

import fastxai as fx
from fastxai.errors import ArgumentError
from fastxai.explainers import EXPLAINERS, GradientShap


def normalized(model, pictures):
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (model.preprocess.mean, model.preprocess.std))
    return (pictures / 255 - mean) / std


@pytest.mark.parametrize("baseline", ["black", "mean", "blur", "random", "bank"])
def test_a_linear_model_is_complete(linear, noise_pictures, baseline):
    """The gradient is the same everywhere, so attributions sum to F(x) - F(b) whatever was drawn."""
    pictures = noise_pictures(3)
    given = noise_pictures(5)[3:] if baseline == "bank" else baseline
    config = GradientShap(samples=6, baseline=given, delta=True)
    found = fx.explain(linear, pictures, config, targets=[[0, 1]] * 3)["gradient-shap"]
    # sums of 1,728 float32 products of size 0.1
    assert found.delta.abs().max() < 2e-4
    assert found.maps.abs().max() > 0.01


def test_black_baseline_of_a_linear_model_has_a_closed_form(linear, noise_pictures):
    pictures = noise_pictures(2)
    found = fx.explain(linear, pictures, GradientShap(samples=3, attributions=True), targets=[[1], [1]])[
        "gradient-shap"
    ]
    x, black = normalized(linear, pictures), normalized(linear, torch.zeros(1, 3, 24, 24))
    wanted = (x - black) * linear.module.weight[1].detach()
    np.testing.assert_allclose(found.attributions[:, 0].numpy(), wanted.numpy(), atol=1e-6)
    np.testing.assert_allclose(found.maps[:, 0].numpy(), wanted.sum(1).numpy(), atol=1e-6)


def test_noise_widens_the_paths(linear, noise_pictures):
    pictures = noise_pictures(2)
    found = fx.explain(linear, pictures, GradientShap(samples=50, stdevs=0.5, delta=True))["gradient-shap"]
    plain = fx.explain(linear, pictures, GradientShap(samples=50))["gradient-shap"]
    assert found.delta.abs().max() < 2e-3  # complete against its own noisy pictures
    spread = (found.maps - plain.maps).std()
    gradient = linear.module.weight.detach()
    # mean of 50 draws of N(0, 0.5) times the gradient, summed over 3 channels
    wanted = 0.5 / 50**0.5 * (gradient[0].square().sum(0).mean().sqrt())
    assert 0.8 < spread / wanted < 1.25


def test_delta_auto_costs_no_more_than_a_pass(convolutional, noise_pictures):
    pictures = noise_pictures(2)
    cheap = fx.explain(convolutional, pictures, GradientShap(samples=4))["gradient-shap"]
    assert torch.isfinite(cheap.delta).all()
    for config in (GradientShap(samples=4, baseline="random"), GradientShap(samples=4, stdevs=0.1)):
        assert torch.isnan(fx.explain(convolutional, pictures, config)["gradient-shap"].delta).all()
    off = fx.explain(convolutional, pictures, GradientShap(samples=4, delta=False))["gradient-shap"]
    assert torch.isnan(off.delta).all()
    assert torch.equal(off.maps, cheap.maps)


def test_more_samples_extend_the_same_sequence(convolutional, noise_pictures):
    """Sums over rows 0..3 and 0..7 differ by rows 4..7 alone: the first rows are the same draws."""
    pictures = noise_pictures(1)
    four, eight = (
        fx.explain(convolutional, pictures, GradientShap(samples=n))["gradient-shap"].maps * n for n in (4, 8)
    )
    naive = naive_sum(convolutional, pictures, range(4, 8))
    np.testing.assert_allclose((eight - four)[0, 0].numpy(), naive.numpy(), atol=1e-5)


def naive_sum(model, pictures, ordinals):
    """A loop over rows, straight from the formula."""
    from fastxai import sampling
    from fastxai.images import open_source

    digest = open_source(pictures)[0].read().digest
    keys = sampling.stream_keys(0, [digest], "gradient-shap")
    x, black = normalized(model, pictures), normalized(model, torch.zeros(1, 3, 24, 24))
    target = int(model.module(x).argmax())
    total = torch.zeros(24, 24)
    for ordinal in ordinals:
        alpha, _ = sampling.path_draws(keys, torch.tensor([0]), torch.tensor([ordinal]), 1)
        point = (alpha * x + (1 - alpha) * black).requires_grad_()
        (gradient,) = torch.autograd.grad(model.module(point)[0, target], point)
        total += ((x - black) * gradient)[0].sum(0)
    return total.detach()


def test_configuration_round_trips():
    config = GradientShap(samples=7, baseline="blur", delta=False)
    assert EXPLAINERS.from_dict(config.to_dict()) == config
    assert EXPLAINERS.parse("gradient-shap:samples=7,baseline=blur,delta=false") == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples must be at least 1"),
        ({"stdevs": -1}, "stdevs must be a number at least 0"),
        ({"baseline": 3}, "baseline must be black, mean, blur, random, pictures or a folder"),
        ({"delta": "yes"}, "delta must be"),
        ({"attributions": 1}, "attributions must be True or False"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        GradientShap(**options)


def test_a_baseline_that_does_not_exist_is_refused(linear, noise_pictures):
    with pytest.raises(ArgumentError, match="baseline must be one of black, mean, blur, random, or pictures"):
        fx.explain(linear, noise_pictures(1), GradientShap(baseline="blak"))
