"""Score-CAM: rows of masked pictures."""

import pytest
import torch
from torch import nn

import fastxai as fx
from fastxai.models import Model

from .conftest import Counting, normalized

SETTINGS = fx.Settings(precision="fp32", rows={"predict": 4, "scores": 8, "gradients": 4, "injected": 8})


def activations(model, pictures):
    return model.module.features(normalized(model, pictures)).relu().detach()


def score_cam(model, picture, target, channels=None):
    """The paper, a channel after the other."""
    with torch.no_grad():
        x, (maps,) = normalized(model, picture[None]), activations(model, picture[None])
        kept = range(len(maps)) if channels is None else channels
        scores = []
        for channel in kept:
            grown = nn.functional.interpolate(maps[None, None, channel], (24, 24), mode="bilinear", align_corners=True)
            mask = (grown - grown.min()) / (grown.max() - grown.min() + 1e-8)
            scores.append(model.module(x * mask)[0, target])
        weights = torch.stack(scores).softmax(0)
        return sum(weight * maps[channel] for weight, channel in zip(weights, kept, strict=True))


def test_native_map_is_the_formula(convolutional, noise_pictures):
    pictures = noise_pictures(3)
    targets = [[2, 5], [0, 1], [3, 3]]
    found = fx.explain(convolutional, pictures, fx.ScoreCam(layer="act"), targets=targets, settings=SETTINGS)
    for image, wanted in enumerate(targets):
        for place, target in enumerate(wanted):
            # float32 scores from calls of other shapes
            torch.testing.assert_close(
                found["scorecam"].native[image, place],
                score_cam(convolutional, pictures[image], target),
                rtol=1e-4,
                atol=1e-5,
            )


def test_chosen_channels_are_those_that_vary_most(convolutional, noise_pictures):
    pictures = noise_pictures(2)
    found = fx.explain(convolutional, pictures, fx.ScoreCam(layer="act", channels=4), targets=1, settings=SETTINGS)
    for image, maps in enumerate(activations(convolutional, pictures)):
        spread = maps.flatten(1).std(1).tolist()
        chosen = sorted(range(12), key=lambda channel: -spread[channel])[:4]
        wanted = score_cam(convolutional, pictures[image], 1, sorted(chosen))
        torch.testing.assert_close(found["scorecam"].native[image, 0], wanted, rtol=1e-4, atol=1e-5)
    everything = fx.explain(convolutional, pictures, fx.ScoreCam(layer="act"), targets=1, settings=SETTINGS)
    more = fx.explain(convolutional, pictures, fx.ScoreCam(layer="act", channels=99), targets=1, settings=SETTINGS)
    assert torch.equal(more["scorecam"].native, everything["scorecam"].native)


def test_weights_add_up_to_one(convolutional, noise_pictures):
    """Of a layer whose channels are all the same, the map is that channel, whatever the scores."""

    class Repeated(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module, self.same = module, nn.Identity()
            self.twice = nn.ReLU()

        def forward(self, x):
            maps = self.twice(self.module.features(x)[:, :1].repeat(1, 12, 1, 1))
            return self.module.head(maps.mean((2, 3)))

    model = Model(Repeated(convolutional.module), convolutional.preprocess, precision="fp32", device="cpu")
    pictures = noise_pictures(2)
    found = fx.explain(model, pictures, fx.ScoreCam(layer="twice"), targets="top3", settings=SETTINGS)["scorecam"]
    with torch.no_grad():
        wanted = convolutional.module.features(normalized(convolutional, pictures))[:, :1].relu()
    # float32 weights that sum to 1
    torch.testing.assert_close(found.native, wanted.expand(-1, 3, -1, -1), rtol=1e-5, atol=1e-6)


def test_the_number_of_model_calls_is_exact(convolutional, noise_pictures):
    """Rows of several pictures fill a chunk, all targets come from the same rows, and progress knows how many."""
    counting = Counting(convolutional.module)
    model = Model(counting, convolutional.preprocess, precision="fp32", compile=False, device="cpu")
    done = []
    config = fx.ScoreCam(layer=("module.features.0", "module.act"))
    fx.explain(model, noise_pictures(3), config, targets="top3", settings=SETTINGS, progress=done.append)
    # 3 pictures: one prediction chunk of 4, then 3 x 8 rows of one layer and 3 x 12 of the other in chunks of 8
    assert counting.seen[-9:] == [4] + [8] * 3 + [8] * 5
    assert done[0].rows_total == done[-1].rows_total == done[-1].rows == 3 * (1 + 8 + 12)


@pytest.mark.parametrize("channels", [None, 5])
def test_rows_are_foreseen(convolutional, channels):
    config = fx.ScoreCam(layer=("features.0", "act"), channels=channels)
    with convolutional.open(fx.Settings(precision="fp32")) as session:
        assert config.expected_rows(2, session) == {"scores": 20 if channels is None else 10}
    assert config.row_count(2)["scores"] == (2048 if channels is None else 10)
