import pytest
import torch

import fastxai as fx
from fastxai.explainers import EXPLAINERS, Random

from .conftest import explain


def test_noise_is_keyed_by_seed_picture_and_class(convolutional, noise_pictures):
    pictures = noise_pictures(3)

    def maps(images, targets, seed=0):
        return explain(convolutional, images, Random(), targets=targets, seed=seed).maps

    found = maps(pictures, [[2, 5]] * 3)
    assert torch.equal(maps(pictures[1:2], [[5]])[0, 0], found[1, 1])
    noises = [*found.flatten(0, 1), *maps(pictures[:1], [[2]], seed=1)[0]]
    for i, one in enumerate(noises):
        assert abs(one.mean()) < 0.2  # 5 times what 576 normal numbers vary
        assert 0.85 < one.std() < 1.15
        for other in noises[:i]:
            assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1].abs() < 0.2


def test_a_number_a_superpixel(convolutional, noise_pictures):
    pictures = noise_pictures(2)
    labels = torch.arange(576).reshape(1, 24, 24).repeat(2, 1, 1).clamp_max(torch.tensor([3, 40]).reshape(2, 1, 1))
    both = explain(convolutional, pictures, Random(segments=labels.numpy()), targets="top2")
    assert both.weights.shape == (2, 2, 41)
    assert torch.isnan(both.weights[0, :, 4:]).all()
    assert torch.isfinite(both.weights[1]).all()
    for image in range(2):
        assert torch.equal(both.maps[image, 0], both.weights[image, 0][labels[image]])
    alone = explain(convolutional, pictures[:1], Random(segments=labels[:1].numpy()), targets="top2")
    assert torch.equal(alone.weights[0], both.weights[0, :, :4])
    assert both.mask(top_segments=2)[1, 0].sum() > 0


def test_the_model_is_not_asked(counted, noise_pictures):
    settings = fx.Settings(precision="fp32", rows={"predict": 4, "scores": 8, "gradients": 3})
    fx.explain(counted, noise_pictures(3), fx.Saliency(), settings=settings)
    before = len(counted.module.seen)
    counted.module.seen.clear()
    fx.explain(counted, noise_pictures(3), Random(), settings=settings)
    assert len(counted.module.seen) == before - 1  # all but the one chunk of gradients
    assert counted.module.seen[-1] == 4


def test_configuration_round_trips():
    for config in (Random(), Random(segments="grid:rows=2,columns=3")):
        assert EXPLAINERS.from_dict(config.to_dict()) == config
    assert EXPLAINERS.parse("random:segments=slic(segments=9),name=floor") == Random(
        segments=fx.Slic(segments=9), name="floor"
    )


def test_every_class_of_a_model_takes_segments():
    from fastxai.errors import ArgumentError

    with pytest.raises(ArgumentError, match="targets must be at most 128 for random .* set its segments"):
        Random().check_targets(1000)
    Random(segments="grid").check_targets(1000)
