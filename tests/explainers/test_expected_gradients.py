import numpy as np
import pytest
import torch

import fastxai as fx
from fastxai import sampling
from fastxai.errors import ArgumentError
from fastxai.explainers import EXPLAINERS, ExpectedGradients, GradientShap
from fastxai.images import open_source

from .conftest import explain, gradients, normalized


def test_a_linear_model_is_complete(linear, noise_pictures):
    pictures = noise_pictures(5)
    found = explain(
        linear, pictures[:2], ExpectedGradients(samples=6, baseline=pictures[2:], delta=True), targets="all"
    )
    assert found.delta.abs().max() < 2e-4  # sums of 1,728 float32 products of size 0.1
    assert found.maps.abs().max() > 0.01


def test_the_formula_row_by_row(convolutional, noise_pictures):
    pictures, samples = noise_pictures(5), 6
    config = ExpectedGradients(samples=samples, baseline=pictures[2:], attributions=True)
    found = explain(convolutional, pictures[:2], config, targets=[[3], [3]])
    x, bank = normalized(convolutional, pictures[:2]), normalized(convolutional, pictures[2:])
    keys = sampling.stream_keys(0, [e.read().digest for e in open_source(pictures[:2])], "expected-gradients")
    drawn = set()
    for i in range(2):
        total = torch.zeros(1, 3, 24, 24)
        for ordinal in range(samples):
            alpha, index = sampling.path_draws(keys, torch.tensor([i]), torch.tensor([ordinal]), 3)
            base = bank[index]
            total += (x[i] - base) * gradients(convolutional, alpha * x[i] + (1 - alpha) * base, 3)
            drawn.add(int(index))
        # float32 sums of 6 products of size 1e-3
        np.testing.assert_allclose(found.attributions[i].numpy(), (total / samples).numpy(), atol=1e-7)
    assert len(drawn) > 1  # otherwise it says nothing about the background


def test_sums_over_superpixels_as_gradient_shap_has_them(convolutional, noise_pictures):
    pictures = noise_pictures(4)
    options = {"samples": 4, "baseline": pictures[2:]}
    pixels = explain(convolutional, pictures[:2], ExpectedGradients(**options)).maps
    found = explain(convolutional, pictures[:2], ExpectedGradients(**options, segments="grid:rows=2,columns=2"))
    summed = pixels.unfold(2, 12, 12).unfold(3, 12, 12).sum((4, 5)).flatten(2)
    np.testing.assert_allclose(found.weights.numpy(), summed.numpy(), rtol=1e-4, atol=1e-6)  # two orders of summation


def test_the_number_of_model_calls_is_exact(counted, noise_pictures):
    settings = fx.Settings(precision="fp32", rows={"predict": 4, "scores": 8, "gradients": 5})
    config = ExpectedGradients(samples=5, baseline=noise_pictures(5)[3:])
    assert config.row_count(3) == {"gradients": 5, "scores": 0}
    explain(counted, noise_pictures(3), config, targets="top3", settings=settings)
    assert counted.module.seen[-4:] == [4, 5, 5, 5]


def test_a_background_is_required_and_noise_is_not_offered(tmp_path):
    for given in ({}, {"baseline": "black"}, {"baseline": "random"}):
        with pytest.raises(ArgumentError, match="baseline must be pictures or a folder for expected-gradients"):
            ExpectedGradients(**given)
    with pytest.raises(ArgumentError, match="option of explainer 'expected-gradients' must be one of"):
        EXPLAINERS.parse("expected-gradients:baseline=folder,stdevs=0.5")


def test_the_command_lines_words(convolutional, noise_pictures, tmp_path):
    from PIL import Image

    for index, picture in enumerate(noise_pictures(3)):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / f"{index}.png")
    parsed = EXPLAINERS.parse(f"expected-gradients:samples=3,baseline={tmp_path}")
    assert isinstance(parsed, GradientShap)  # the same code, with a background that must be named
    found = explain(convolutional, noise_pictures(1), parsed)
    wanted = explain(convolutional, noise_pictures(1), ExpectedGradients(samples=3, baseline=noise_pictures(3)))
    assert torch.equal(found.maps, wanted.maps)


def test_configuration_round_trips(noise_pictures, preprocess):
    config = ExpectedGradients(samples=7, baseline=noise_pictures(2), delta=False).settle(preprocess, ())
    assert "stdevs" not in config.to_dict() and "blur" not in config.to_dict()
    assert EXPLAINERS.from_dict(config.to_dict()) == config
