import numpy as np
import pytest
import torch

import fastxai as fx
from fastxai.errors import ArgumentError
from fastxai.explainers import GradCam


def normalized(model, pictures):
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (model.preprocess.mean, model.preprocess.std))
    return (pictures / 255 - mean) / std


@pytest.mark.parametrize("layer", ["features.0", "features.2", "act"])
def test_native_map_is_the_formula(convolutional, noise_pictures, layer):
    """sum_d mean(d score / d A_d) A_d by hand, although an in-place ReLU overwrites the layer's output."""
    pictures = noise_pictures(3)
    found = fx.explain(convolutional, pictures, GradCam(layer=layer), targets=[[2, 5]] * 3)["gradcam"]
    module = convolutional.module
    x = normalized(convolutional, pictures)
    for place, target in enumerate((2, 5)):
        activation = (
            {
                "features.0": lambda: module.features[0](x),
                "features.2": lambda: module.features[2](module.features[0](x).relu()),
                "act": lambda: module.features[2](module.features[0](x).relu()).relu(),
            }[layer]()
            .detach()
            .requires_grad_()
        )
        later = {
            "features.0": lambda a: module.features[2](a.relu()).relu(),
            "features.2": torch.relu,
            "act": lambda a: a,
        }
        score = module.head(later[layer](activation).mean(dim=(2, 3)))[:, target].sum()
        (gradient,) = torch.autograd.grad(score, activation)
        wanted = (gradient.mean(dim=(2, 3), keepdim=True) * activation).sum(1)
        np.testing.assert_allclose(found.native[:, place].numpy(), wanted.detach().numpy(), atol=1e-6)


def test_displayed_map_is_in_range_and_of_the_pictures_size(convolutional, noise_pictures):
    found = fx.explain(convolutional, noise_pictures(4), GradCam(), targets="top3")["gradcam"]
    assert found.maps.shape == (4, 3, 24, 24)
    assert found.native.shape == (4, 3, 12, 12)
    assert found.maps.min() >= 0
    assert found.maps.max() <= 1
    # a map with any positive part is stretched to the whole range, up to the 1e-7 of the formula
    for shown, native in zip(found.maps.flatten(0, 1), found.native.flatten(0, 1), strict=True):
        if native.max() > 1e-3:
            assert shown.max() > 0.999


def test_a_layer_that_does_not_exist_is_refused_before_any_work(convolutional, noise_pictures):
    with pytest.raises(ArgumentError, match="layer"):
        fx.explain(convolutional, noise_pictures(1), GradCam(layer="features.9"))
    with pytest.raises(ArgumentError, match="layer must be"):
        GradCam(layer="")
