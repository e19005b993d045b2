"""Twenty-six classifiers of torchvision and timm: every family, small, and with the layer that is found in each.

Weights are random, inputs are 64 pixels wide where the family allows it: neither changes the names of layers. Where a
family's smallest member is large, it is made smaller in depth or width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import nn
from torchvision import models
from torchvision.models import MaxVit, SwinTransformer, VisionTransformer

from fastxai.models import Model
from fastxai.models.runner import waves
from fastxai.types import Preprocess
from tests.peers.conftest import settle_batch_norm

CLASSES = 10


@dataclass(frozen=True)
class Entry:
    """A classifier, and how the package should read it.

    layer: what `cam_layer` finds. form: how its output lies: "maps" [B, D, h, w], "last" [B, h, w, D], or "1 + 4 x 4":
    tokens, so many before those of the grid. folded: batch norms that become part of convolutions. kinks: so many and
    so close to zero that float32 and float64 fall on different sides of some in every picture.
    """

    name: str
    make: Callable[[], nn.Module]
    layer: str
    folded: int = 0
    form: str = "maps"
    side: int = 64
    kinks: bool = False

    @functools.cached_property
    def module(self) -> nn.Module:
        """In evaluation mode, the same one on every call; batch norms have the statistics of a few images."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = self.make()
            _spread(module)
        # Beside pictures, what folding is checked with: there too, scores of 1e4 would have no digits to compare.
        settle_batch_norm(module, torch.cat([noise(8, self.side, seed=1), waves((2, 3, self.side, self.side))]))
        return module.eval()

    def model(self, **options: Any) -> Model:
        preprocess = Preprocess((self.side, self.side), None, "bilinear", (0.5,) * 3, (0.5,) * 3)
        return Model(self.module, preprocess, name=self.name, device="cpu", **options)


def noise(count: int, side: int, seed: int = 0) -> torch.Tensor:
    """Model inputs float32 [count, 3, side, side] of blurred noise, of the range of pictures."""
    coarse = torch.randn(count, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=(side, side), mode="bilinear").clamp(-1, 1)


def _spread(module: nn.Module) -> None:
    """Weights that fresh networks set to zero, or nearly, would hide what lies behind them."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.numel() > 1 and float(parameter.detach().abs().max()) <= 1e-4:
                nn.init.normal_(parameter, std=0.02 if name == "weight" else 0.1)


def _torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: models.get_model(name, weights=None, num_classes=CLASSES, **options)


def _headless(name: str, features: int, **options: Any) -> Callable[[], nn.Module]:
    """With one linear layer for the three that hold nearly all of the weights."""

    def make() -> nn.Module:
        with torch.device("meta"):
            module = models.get_model(name, weights=None, **options)
        module.classifier = nn.Linear(features, CLASSES)
        module.features.to_empty(device="cpu")
        for part in module.features.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
                nn.init.zeros_(part.bias)
        return module

    return make


def _timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, pretrained=False, num_classes=CLASSES, **options)


_GOOGLE = {"init_weights": False}  # otherwise minutes of drawing from a truncated normal distribution

TABLE = [
    Entry("resnet18", _torchvision("resnet18"), "layer4", 20),
    Entry("alexnet", _headless("alexnet", 256 * 6 * 6), "features.11"),
    Entry("vgg11", _headless("vgg11", 512 * 7 * 7, init_weights=False), "features.19"),
    Entry("squeezenet1_1", _torchvision("squeezenet1_1"), "classifier.2"),
    Entry("densenet121", _torchvision("densenet121"), "features", 59),
    Entry("googlenet", _torchvision("googlenet", **_GOOGLE), "inception5b", 57),
    Entry("inception_v3", _torchvision("inception_v3", **_GOOGLE), "Mixed_7c", 94, side=128, kinks=True),
    Entry("mobilenet_v2", _torchvision("mobilenet_v2"), "features", 52),
    Entry("mobilenet_v3_small", _torchvision("mobilenet_v3_small"), "features", 34),
    Entry("shufflenet_v2_x0_5", _torchvision("shufflenet_v2_x0_5"), "conv5", 56),
    Entry("mnasnet0_5", _torchvision("mnasnet0_5"), "layers", 52),
    Entry("efficientnet_b0", _torchvision("efficientnet_b0"), "features", 49),
    Entry("regnet_y_400mf", _torchvision("regnet_y_400mf"), "trunk_output", 53),
    Entry("convnext_tiny", _torchvision("convnext_tiny"), "features"),
    Entry(
        "vit",
        lambda: VisionTransformer(64, 16, 3, 4, 64, 128, num_classes=CLASSES),
        "encoder.layers.encoder_layer_2.ln_1",
        form="1 + 4 x 4",
    ),
    Entry(
        "swin",
        lambda: SwinTransformer([4, 4], 32, [2, 2, 2], [2, 4, 8], [4, 4], num_classes=CLASSES),
        "permute",
    ),
    Entry(
        "maxvit",
        lambda: MaxVit((64, 64), 16, 4, [16, 32], [1, 2], 8, 0.0, num_classes=CLASSES),
        "blocks.1",
        7,
    ),
    Entry("timm vit", _timm("vit_tiny_patch16_224", img_size=64, depth=3), "blocks.2.norm1", form="1 + 4 x 4"),
    Entry(
        "timm deit distilled",
        _timm("deit_tiny_distilled_patch16_224", img_size=64, depth=3),
        "blocks.2.norm1",
        form="2 + 4 x 4",
    ),
    Entry(
        "timm vit registers", _timm("vit_wee_patch16_reg1_gap_256", img_size=64, depth=3), "blocks", form="1 + 4 x 4"
    ),
    Entry("timm swin", _timm("swin_tiny_patch4_window7_224", img_size=64, depths=(2, 2, 2, 2)), "norm", form="last"),
    Entry("timm convnext_atto", _timm("convnext_atto"), "stages"),
    Entry("timm efficientnet_lite0", _timm("tf_efficientnet_lite0"), "bn2", 49),
    Entry("timm regnety_002", _timm("regnety_002"), "s4", 44),
    Entry("timm mobilenetv3_small_050", _timm("mobilenetv3_small_050"), "blocks", 34),
    Entry("timm maxvit", _timm("test_maxvit", img_size=64), "norm", 9),
]
