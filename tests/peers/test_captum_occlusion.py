"""Occlusion against `captum.attr.Occlusion`."""

import copy

import pytest
import torch
from captum.attr import Occlusion as StockOcclusion

import fastxai as fx

TARGETS = [[3, 5], [1, 0]]


def assert_agrees(model, pictures, window, stride):
    config = fx.Occlusion(window=window, stride=stride)
    settings = fx.Settings(precision="fp32")
    ours = fx.explain(model, pictures, config, targets=TARGETS, settings=settings)["occlusion"].maps
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (model.preprocess.mean, model.preprocess.std))
    x, black = (pictures / 255 - mean) / std, (-mean / std).expand(1, 3, *pictures.shape[2:])
    module = copy.deepcopy(model.module).eval()
    for place in range(2):
        theirs = StockOcclusion(module).attribute(
            x,
            sliding_window_shapes=(3, *window),
            strides=(3, *stride),
            baselines=black,
            target=[row[place] for row in TARGETS],
            perturbations_per_eval=4,
        )
        assert torch.equal(theirs[:, 0], theirs[:, 2])  # a window hides all channels
        error = (ours[:, place] - theirs[:, 0]).abs().max()
        scale = theirs.abs().max()
        print(f"{model.name}, window {window}, stride {stride}: worst difference {error / scale:.1e} of the maximum")
        # Scores of float32 from calls of 8 rows and of others differ in the last bits, which are 1e-6 of them; a fall
        # is the difference of two.
        assert error < 1e-4 * scale


@pytest.mark.parametrize(
    ("window", "stride"), [((8, 8), (8, 8)), ((7, 7), (5, 5)), ((9, 6), (4, 6)), ((24, 5), (30, 2)), ((6, 6), (1, 1))]
)
def test_agrees_on_a_small_model(convolutional, noise_pictures, window, stride):
    assert_agrees(convolutional, noise_pictures(2), window, stride)


def test_agrees_on_a_classifier(photos):
    from .conftest import crops

    model = fx.load_model("embedded", device="cpu", precision="fp32", compile=False)
    pictures = ((crops(photos, model.preprocess.size, 2) + 1) * 127.5).round().to(torch.uint8)
    assert_agrees(model, pictures, (80, 64), (60, 64))
