import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import fastxai as fx
from fastxai import sampling
from fastxai.errors import ArgumentError
from fastxai.explainers import EXPLAINERS, Rise
from fastxai.images import open_source
from fastxai.models import Model

from .conftest import explain, normalized


def naive(model, picture, config, target, fill):
    """RISE as the paper writes it: one mask after the other, grown by torch, in plain sums. x, fill: model input."""
    (entry,) = open_source(picture[None])
    keys = sampling.stream_keys(0, [entry.read().digest], "rise")
    masks = sampling.GridMasks((24, 24), config.cells, config.probability, torch.device("cpu"))
    x = normalized(model, picture[None])
    total = torch.zeros(24, 24, dtype=torch.float64)
    for ordinal in range(config.samples):
        grid, shift = masks.draws(keys, torch.tensor([0]), torch.tensor([ordinal]))
        side = (config.cells + 1) * masks.steps[0]
        grown = functional.interpolate(grid[None], (side, side), mode="bilinear", align_corners=False)[0, 0]
        down, across = shift[0].tolist()
        mask = grown[down : down + 24, across : across + 24]
        with torch.no_grad():
            logits = model.module(mask * x + (1 - mask) * fill)
        total += (logits if config.explains == "logit" else logits.softmax(1))[0, target] * mask
    return total / config.samples / config.probability


@pytest.mark.parametrize(
    "options",
    [{}, {"cells": 5, "probability": 0.2, "explains": "logit"}, {"fill": "mean"}, {"fill": (255, 0, 40.5), "cells": 1}],
)
def test_against_a_naive_rise(convolutional, noise_pictures, options):
    pictures = noise_pictures(2)
    config = Rise(samples=50, **options)
    found = explain(convolutional, pictures, config, targets=[[1, 4]] * 2).maps
    for i, picture in enumerate(pictures):
        if config.fill == "mean":
            fill = normalized(convolutional, picture[None]).mean((2, 3), keepdim=True)
        else:
            colour = (0.0, 0.0, 0.0) if config.fill == "black" else config.fill
            fill = normalized(convolutional, torch.tensor(colour).reshape(1, 3, 1, 1))
        for place, target in enumerate((1, 4)):
            wanted = naive(convolutional, picture, config, target, fill)
            # The masks' weights are rounded to 1/2048 on each axis, up and down alike; scores move by less.
            assert (found[i, place] - wanted).abs().max() < 1e-3 * wanted.abs().max()
            # far more than the tolerance: the map of one cell that shows nothing new has no more to say
            assert wanted.max() - wanted.min() > 0.01 * wanted.abs().max() or config.cells == 1


def test_masks_that_hide_nothing_give_the_score(convolutional, noise_pictures):
    pictures = noise_pictures(2)
    found = explain(convolutional, pictures, Rise(samples=20, probability=1.0), targets=[[3]] * 2).maps
    scores = convolutional.module(normalized(convolutional, pictures)).softmax(1)[:, 3].detach()
    wanted = scores.reshape(2, 1, 1, 1).expand(2, 1, 24, 24)
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-6)  # float32 sums of 20 equal scores


class OnePixel(nn.Module):
    """Two scores: the red of one pixel, and 1."""

    def forward(self, x):
        return torch.stack([x[:, 0, 7, 16], torch.ones(len(x))], dim=1)


def test_the_pixel_that_is_looked_at_stands_out(preprocess, noise_pictures):
    model = Model(OnePixel(), preprocess, precision="fp32", compile=False, device="cpu")
    pictures = noise_pictures(1)
    pictures[0, 0, 7, 16] = 255
    found = explain(model, pictures, Rise(samples=3000, cells=6, explains="logit"), targets="all").maps[0]
    row, column = divmod(int(found[0].argmax()), 24)
    assert abs(row - 7) <= 2 and abs(column - 16) <= 2  # a mask is smooth over its cells of 4 pixels
    # score 1 whatever is hidden: the mean of the masks divided by their probability, 1 but for chance (0.02)
    assert (found[1] - 1).abs().max() < 0.1


def test_more_samples_extend_the_same_sequence(convolutional, noise_pictures):
    pictures = noise_pictures(1)
    four, eight = (explain(convolutional, pictures, Rise(samples=n), targets=[[2]]).maps[0, 0] * n for n in (4, 8))
    black = normalized(convolutional, torch.zeros(1, 3, 1, 1))
    wanted = naive(convolutional, pictures[0], Rise(samples=8), 2, black) * 8
    first = naive(convolutional, pictures[0], Rise(samples=4), 2, black) * 4
    # rounded masks, as above
    assert ((eight - four) - (wanted - first)).abs().max() < 1e-3 * wanted.abs().max()


def test_the_number_of_model_calls_is_exact(counted, noise_pictures):
    settings = fx.Settings(precision="fp32", rows={"predict": 4, "scores": 6, "gradients": 3})
    config = Rise(samples=10)
    assert config.row_count(3) == {"scores": 10}
    explain(counted, noise_pictures(3), config, targets="top3", settings=settings)
    assert counted.module.seen[-6:] == [4] + [6] * 5


def test_configuration_round_trips():
    config = Rise(samples=9, cells=3, probability=0.25, fill="mean", explains="logit")
    assert EXPLAINERS.from_dict(config.to_dict()) == config
    assert EXPLAINERS.parse("rise:samples=9,cells=3,probability=0.25,fill=mean,explains=logit") == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples must be at least 1"),
        ({"cells": 0}, "cells must be at least 1"),
        ({"probability": 0}, "probability must be a number above 0 and at most 1"),
        ({"probability": 1.5}, "probability must be a number above 0 and at most 1"),
        ({"fill": 3}, "fill must be"),
        ({"explains": "loss"}, "explains must be one of probability, logit"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        Rise(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"cells": 25}, "cells must be at most 24"), ({"fill": (1, 2)}, "fill must have 3 channels")],
)
def test_what_does_not_fit_the_model_is_refused(linear, noise_pictures, options, message):
    with pytest.raises(ArgumentError, match=message):
        explain(linear, noise_pictures(1), Rise(**options))
