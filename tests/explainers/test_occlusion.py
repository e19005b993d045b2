import numpy as np
import pytest
import torch
from torch import nn

import fastxai as fx
from fastxai import ops
from fastxai.errors import ArgumentError
from fastxai.explainers import EXPLAINERS, Occlusion
from fastxai.explainers.occlusion import Windows
from fastxai.models import Model

from .conftest import explain, normalized

# window, stride, for pictures of 24 x 24: even; cut off at the border; different in both directions; each pixel alone
SHAPES = [((8, 8), (8, 8)), ((7, 7), (5, 5)), ((9, 6), (4, 6)), ((24, 5), (30, 2)), ((3, 3), (1, 1))]


def corners(length, window, stride):
    """First and last pixel of the windows along one axis, by walking."""
    start, found = 0, []
    while True:
        found.append((start, min(start + window, length)))
        if start + window >= length:
            return found
        start += stride


@pytest.mark.parametrize(("window", "stride"), SHAPES)
def test_against_a_walk_over_windows(convolutional, noise_pictures, window, stride):
    pictures, fill = noise_pictures(2), (10.0, 200.0, 30.0)
    config = Occlusion(window=window, stride=stride, fill=fill)
    found = explain(convolutional, pictures, config, targets=[[1, 4]] * 2).maps
    x = normalized(convolutional, pictures)
    hidden = normalized(convolutional, torch.tensor(fill).reshape(1, 3, 1, 1))[0]
    sums, counts = torch.zeros(2, 2, 24, 24), torch.zeros(24, 24)
    with torch.no_grad():
        whole = convolutional.module(x)[:, [1, 4]]
        for top, bottom in corners(24, window[0], stride[0]):
            for left, right in corners(24, window[1], stride[1]):
                copy = x.clone()
                copy[:, :, top:bottom, left:right] = hidden
                fall = whole - convolutional.module(copy)[:, [1, 4]]
                sums[:, :, top:bottom, left:right] += fall[:, :, None, None]
                counts[top:bottom, left:right] += 1
    assert counts.min() > 0
    # float32 scores of size 0.3 carry 1e-7 each, in calls of another shape
    np.testing.assert_allclose(found.numpy(), (sums / counts).numpy(), atol=1e-6)
    assert found.abs().max() > 1e-3


class OnePixel(nn.Module):
    """Two scores: the red of one pixel, and nothing."""

    def forward(self, x):
        return torch.stack([x[:, 0, 7, 10], torch.zeros(len(x))], dim=1)


def test_a_model_that_looks_at_one_pixel(preprocess, noise_pictures):
    model = Model(OnePixel(), preprocess, precision="fp32", compile=False, device="cpu")
    pictures = noise_pictures(2)
    found = explain(model, pictures, Occlusion(window=3, stride=1), targets="all").maps
    black = normalized(model, torch.zeros(1, 3, 24, 24))[0, 0, 0, 0]
    for i, x in enumerate(normalized(model, pictures)):
        fall = x[0, 7, 10] - black
        down, across = (torch.arange(24) - at for at in (7, 10))
        # of the 9 windows over a pixel d down and e across from it, (3 - d) (3 - e) hide the one that is looked at
        wanted = torch.outer((3 - down.abs()).clamp_min(0), (3 - across.abs()).clamp_min(0)) * fall / 9
        # exact up to the rounding of a mean of 9 equal numbers; and exactly 0 where no window reaches
        np.testing.assert_allclose(found[i, 0].numpy(), wanted.numpy(), rtol=1e-6, atol=0)
    assert not found[:, 1].any()


def test_what_windows_show(preprocess, noise_pictures):
    """A linear score of the whole input: its fall is the weighted difference of what was and what is shown."""

    class Sum(nn.Module):
        def forward(self, x):
            return x.sum(dim=(2, 3))

    model = Model(Sum(), preprocess, precision="fp32", compile=False, device="cpu")
    pictures = noise_pictures(2)
    x = normalized(model, pictures)
    shown = {
        "black": normalized(model, torch.zeros(1, 3, 1, 1)).expand(2, -1, -1, -1),
        "mean": x.mean((2, 3), keepdim=True),
        (1, 2, 255): normalized(model, torch.tensor([1.0, 2.0, 255.0]).reshape(1, 3, 1, 1)).expand(2, -1, -1, -1),
    }
    for fill, colour in shown.items():
        for given, options in ((pictures, {}), (x, {"normalized": True})):
            found = explain(model, given, Occlusion(window=12, stride=12, fill=fill), targets="all", **options).maps
            wanted = (x - colour).unfold(2, 12, 12).unfold(3, 12, 12).sum((4, 5))
            # differences of float32 sums of size 500
            np.testing.assert_allclose(found[:, :, ::12, ::12].numpy(), wanted.numpy(), atol=2e-3)


def test_logits_or_probabilities(convolutional, noise_pictures):
    pictures = noise_pictures(1)
    found = explain(convolutional, pictures, Occlusion(24, 1, explains="probability"), targets=[[3]])
    logits = convolutional.module(normalized(convolutional, torch.cat([pictures, torch.zeros_like(pictures)]))).detach()
    fall = logits.softmax(1)[0, 3] - logits.softmax(1)[1, 3]
    np.testing.assert_allclose(found.maps.numpy(), np.full((1, 1, 24, 24), fall), atol=1e-6)  # float32 probabilities


@pytest.mark.parametrize(("window", "stride"), SHAPES)
def test_windows_as_coalitions_of_cells(window, stride):
    windows = Windows.of((24, 24), window, stride)
    expected = [(a, b) for a in corners(24, window[0], stride[0]) for b in corners(24, window[1], stride[1])]
    assert windows.count == len(expected)
    cells = windows.down.shape[1] * windows.across.shape[1]
    kept = ops.unpack(windows.coalitions(torch.arange(-1, windows.count)), cells)
    assert kept[0].all()
    for number, ((top, bottom), (left, right)) in enumerate(expected):
        wanted = torch.ones(24, 24, dtype=torch.bool)
        wanted[top:bottom, left:right] = False
        assert torch.equal(kept[1 + number][windows.labels.long()], wanted)


def test_the_number_of_model_calls_is_exact(counted, noise_pictures, preprocess):
    settings = fx.Settings(precision="fp32", rows={"predict": 4, "scores": 6, "gradients": 3})
    config = Occlusion(window=9, stride=5)
    explain(counted, noise_pictures(3), config, targets="top3", settings=settings)
    # 4 x 4 windows and the whole picture, of 3 pictures: 51 rows in chunks of 6
    assert config.settle(preprocess, ()).row_count(3) == {"scores": 17}
    assert counted.module.seen[-10:] == [4] + [6] * 9
    assert Occlusion().row_count(1) == {"scores": 170}  # the forecast, for 224 x 224


def test_configuration_round_trips(preprocess):
    config = Occlusion(window=(9, 6), stride=3, fill=(1, 2, 3), explains="probability")
    assert EXPLAINERS.from_dict(config.to_dict()) == config
    assert EXPLAINERS.from_dict(config.settle(preprocess, ()).to_dict()) == config
    assert EXPLAINERS.parse("occlusion:window=[9,6],stride=3,fill=[1,2,3],explains=probability") == config
    assert EXPLAINERS.parse("occlusion:window=8,stride=8") == Occlusion(8, (8, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window must be at least 1"),
        ({"window": (1, 2, 3)}, "window must be one number of pixels or two"),
        ({"stride": "far"}, "stride must be a whole number"),
        ({"fill": "white"}, "fill must be"),
        ({"explains": "loss"}, "explains must be one of probability, logit"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        Occlusion(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "window must be at most 24 high for this model, got 32"),
        ({"window": (24, 25)}, "window must be at most 24 wide for this model, got 25"),
        ({"window": 6, "stride": 7}, "stride must be at most the window, 6, to leave no gaps, got 7"),
        ({"window": 6, "stride": 6, "fill": (1,)}, "fill must have 3 channels"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(linear, noise_pictures, options, message):
    with pytest.raises(ArgumentError, match=message):
        explain(linear, noise_pictures(1), Occlusion(**options))
