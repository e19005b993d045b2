"""The layer that Grad-CAM takes by itself, and what is said where there is none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastxai.errors import ArgumentError
from fastxai.models import Model
from fastxai.types import Preprocess, Settings


def random_model(name: str, side: int = 64, **options: Any) -> Model:
    """A torchvision classifier with random weights at a small size, which changes no layer's name or order."""
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = models.get_model(name, weights=None, **options)
    return Model(module, Preprocess((side, side), side), device="cpu")


@pytest.mark.parametrize(
    ("name", "side", "options", "layer"),
    [
        ("resnet18", 64, {}, "layer4"),
        ("resnet50", 64, {}, "layer4"),
        ("inception_v3", 128, {"init_weights": False}, "Mixed_7c"),  # with its auxiliary head
        ("vgg11", 64, {}, "features.19"),  # the ReLU before the last pooling
        ("densenet121", 64, {}, "features"),
        ("mobilenet_v3_small", 64, {}, "features"),  # its squeeze convolutions have one position
        ("convnext_tiny", 64, {}, "features"),  # linear layers inside blocks, but maps come out of them
        ("squeezenet1_1", 64, {}, "classifier.2"),  # its classifier is a convolution
    ],
)
def test_the_last_layer_with_feature_maps_is_found(name: str, side: int, options: dict[str, Any], layer: str):
    with random_model(name, side, **options).open(Settings()) as session:
        assert session.cam_layer() == layer
        assert session.check_layer(layer) == layer


def test_the_embedded_models_layer_is_its_last_norm_with_activation(embedded: Model):
    with embedded.open(Settings()) as session:
        assert session.cam_layer() == "bn2"


def test_maps_with_their_positions_first_are_turned():
    with random_model("swin_t").open(Settings()) as session:
        assert session.cam_layer() == "permute"
        inputs = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        names = ("features.7", "permute")  # [1, 2, 2, 768], and the same after a norm as [1, 768, 2, 2]
        found = session.predict(inputs, names).recordings(torch.tensor([[1, 2]]))
        for name in names:
            assert found[name].activation.shape == (1, 768, 2, 2)
            assert found[name].gradients.shape == (1, 2, 768, 2, 2)
        normalised = session._runner.module.norm(found["features.7"].activation.movedim(1, -1)).movedim(-1, 1)
        torch.testing.assert_close(normalised, found["permute"].activation, rtol=1e-5, atol=1e-5)  # float32 norms


def test_wrong_names_come_back_with_close_ones(net: type[nn.Module], wrap: Any):
    with wrap(net()).open(Settings()) as session:
        with pytest.raises(ArgumentError, match=r"got 'lsat'; did you mean last\?.*act, last"):
            session.check_layer("lsat")
        with pytest.raises(ArgumentError, match="must run in the model's forward pass, got 'unused'"):
            session.check_layer("unused")
        with pytest.raises(ArgumentError, match=r"feature maps .* got 'head', which gives \[1, 5\]"):
            session.check_layer("head")
        assert session.check_layer("conv") == "conv"
        assert not any(part._forward_hooks for part in session._runner.module.modules())


def test_a_layer_that_runs_twice_is_not_taken(wrap: Any):
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.relu(self.relu(self.conv(x))).mean(dim=(2, 3)))

    with wrap(Shared()).open(Settings()) as session:
        assert session.cam_layer() == "conv"


def test_a_model_without_convolutions_says_so(wrap: Any):
    with (
        wrap(nn.Sequential(nn.Flatten(), nn.Linear(1200, 2))).open(Settings()) as session,
        pytest.raises(ArgumentError, match="no convolution with feature maps: no layer gives feature maps"),
    ):
        session.cam_layer()
