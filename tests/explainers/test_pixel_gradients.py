"""Saliency, input times gradient and SmoothGrad."""

import numpy as np
import pytest
import torch

import fastxai as fx
from fastxai import sampling
from fastxai.errors import ArgumentError
from fastxai.explainers import EXPLAINERS, InputXGradient, Saliency, SmoothGrad
from fastxai.images import open_source

from .conftest import explain, gradients, normalized

TARGETS = [[2, 5]] * 3


def test_a_linear_model_has_its_weights_for_gradients(linear, noise_pictures):
    pictures = noise_pictures(2)
    weight = linear.module.weight.detach()
    signed = explain(linear, pictures, Saliency(absolute=False, attributions=True), targets="all")
    assert torch.equal(signed.attributions, weight.expand(2, -1, -1, -1, -1))
    assert torch.equal(
        explain(linear, pictures, Saliency(), targets="all").maps, weight.abs().sum(1).expand(2, -1, -1, -1)
    )
    product = explain(linear, pictures, InputXGradient(attributions=True), targets="all")
    assert torch.equal(product.attributions, normalized(linear, pictures).unsqueeze(1) * weight)
    # the network has no bias: the products sum to the score, up to sums of 1,728 float32 products of size 0.1
    np.testing.assert_allclose(
        product.maps.sum((2, 3)).numpy(), linear.module(normalized(linear, pictures)).detach().numpy(), atol=2e-4
    )


def test_one_gradient_against_plain_autograd(convolutional, noise_pictures):
    pictures = noise_pictures(3)
    x = normalized(convolutional, pictures)
    saliency = explain(convolutional, pictures, Saliency(attributions=True), targets=TARGETS)
    product = explain(convolutional, pictures, InputXGradient(), targets=TARGETS)
    for place, target in enumerate(TARGETS[0]):
        wanted = gradients(convolutional, x, target)
        # one float32 gradient of size 1e-3, in calls of another shape
        np.testing.assert_allclose(saliency.attributions[:, place].numpy(), wanted.abs().numpy(), atol=1e-8)
        np.testing.assert_allclose(saliency.maps[:, place].numpy(), wanted.abs().sum(1).numpy(), atol=1e-8)
        np.testing.assert_allclose(product.maps[:, place].numpy(), (x * wanted).sum(1).numpy(), atol=1e-7)


def noisy(model, picture, samples, stdevs):
    """The copies of one picture, row by row, straight from the keyed draws."""
    (entry,) = open_source(picture[None])
    keys = sampling.stream_keys(0, [entry.read().digest], "smoothgrad")
    noise = sampling.pixel_normals(keys, torch.zeros(samples, dtype=torch.int64), torch.arange(samples), (3, 24, 24))
    x = normalized(model, picture[None])
    return x + (0.15 * (x.max() - x.min()) if stdevs == "auto" else stdevs) * noise


@pytest.mark.parametrize("stdevs", ["auto", 0.3])
@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("variant", ["plain", "squared", "vargrad"])
def test_smoothgrad_against_plain_autograd(convolutional, noise_pictures, variant, absolute, stdevs):
    pictures = noise_pictures(2)
    config = SmoothGrad(samples=7, stdevs=stdevs, variant=variant, absolute=absolute, attributions=True)
    found = explain(convolutional, pictures, config, targets=TARGETS[:2])
    for i, picture in enumerate(pictures):
        for place, target in enumerate(TARGETS[0]):
            read = gradients(convolutional, noisy(convolutional, picture, 7, stdevs), target).double()
            read = read.abs() if absolute else read
            wanted = {"plain": read.mean(0), "squared": read.square().mean(0), "vargrad": read.var(0, unbiased=False)}
            # float32 sums of 7 rows; a variance is the difference of two of them
            limit = 1e-6 * (read.abs().max() if variant == "plain" else read.square().max())
            assert (found.attributions[i, place] - wanted[variant]).abs().max() < limit
            assert found.attributions[i, place].abs().max() > 100 * limit


def test_noise_changes_nothing_in_a_linear_model(linear, noise_pictures):
    pictures, weight = noise_pictures(2), linear.module.weight.detach()
    plain = explain(linear, pictures, SmoothGrad(samples=6, attributions=True), targets="all")
    np.testing.assert_allclose(plain.attributions[1].numpy(), weight.numpy(), rtol=1e-6)
    variance = explain(linear, pictures, SmoothGrad(samples=6, variant="vargrad"), targets="all").maps
    assert variance.min() >= 0
    assert variance.max() < 1e-6 * weight.square().max()  # rounding of float32 sums, where the variance is 0


def test_more_samples_extend_the_same_sequence(convolutional, noise_pictures):
    pictures = noise_pictures(1)
    four, eight = (explain(convolutional, pictures, SmoothGrad(samples=n)).maps * n for n in (4, 8))
    target = int(convolutional.module(normalized(convolutional, pictures)).argmax())
    last = gradients(convolutional, noisy(convolutional, pictures[0], 8, "auto")[4:], target).sum((0, 1))
    # float32 sums of 24 gradients of size 1e-3
    np.testing.assert_allclose((eight - four)[0, 0].numpy(), last.numpy(), atol=1e-7)


@pytest.mark.parametrize(("config", "rows"), [(Saliency(), 1), (InputXGradient(), 1), (SmoothGrad(samples=5), 5)])
def test_the_number_of_model_calls_is_exact(counted, noise_pictures, config, rows):
    settings = fx.Settings(precision="fp32", rows={"predict": 4, "scores": 8, "gradients": 3})
    fx.explain(counted, noise_pictures(3), config, targets="top3", settings=settings)
    assert config.row_count(3) == {"gradients": rows}
    # all targets from one forward pass a row: 3 pictures make so many rows in chunks of 3, after one prediction
    assert counted.module.seen[-1 - rows :] == [4] + [3] * rows


@pytest.mark.parametrize(
    "config", [Saliency(absolute=False), InputXGradient(attributions=True), SmoothGrad(stdevs=0.2)]
)
def test_configuration_round_trips(config):
    assert EXPLAINERS.from_dict(config.to_dict()) == config


def test_configurations_as_words():
    assert EXPLAINERS.parse("saliency:absolute=false") == Saliency(absolute=False)
    assert EXPLAINERS.parse("input-x-gradient:attributions=true") == InputXGradient(attributions=True)
    assert EXPLAINERS.parse("smoothgrad:samples=9,stdevs=0.5,variant=vargrad") == SmoothGrad(9, 0.5, "vargrad")


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Saliency, {"absolute": 1}, "absolute must be True or False"),
        (Saliency, {"attributions": "yes"}, "attributions must be True or False"),
        (SmoothGrad, {"samples": 0}, "samples must be at least 1"),
        (SmoothGrad, {"stdevs": 0}, "stdevs must be a number above 0"),
        (SmoothGrad, {"stdevs": "much"}, 'stdevs must be "auto" or a number'),
        (SmoothGrad, {"variant": "cubed"}, "variant must be one of plain, squared, vargrad"),
        (SmoothGrad, {"absolute": None}, "absolute must be True or False"),
    ],
)
def test_wrong_options_are_refused(kind, options, message):
    with pytest.raises(ArgumentError, match=message):
        kind(**options)


@pytest.mark.parametrize(
    "name", ["saliency", "input-x-gradient", "smoothgrad", "integrated-gradients", "rise", "occlusion"]
)
def test_too_many_targets_at_pixel_resolution_are_refused(name):
    config = EXPLAINERS.build(name, {})
    config.check_targets(128)
    with pytest.raises(ArgumentError, match=f"targets must be at most 128 for {name}"):
        config.check_targets(129)
