"""Models that the parity tests share."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import fastxai as fx
from fastxai.models import Model


@pytest.fixture(scope="session", params=["embedded", "torchvision:resnet50", "torchvision:inception_v3"])
def classifier(request, photos) -> Model:
    """A classifier in float32. Random weights, which serve for arithmetic, get calibrated batch-norm statistics and
    inputs smaller than usual."""
    spec = request.param
    if spec == "embedded":
        return fx.load_model(spec, device="cpu", precision="fp32", compile=False)
    loaded = fx.load_model(spec, weights="random", device="cpu", precision="fp32", compile=False)
    preprocess = replace(loaded.preprocess, size=(128, 128), resize=128)
    model = Model(loaded.module, preprocess, name=spec, device="cpu", precision="fp32", compile=False)
    settle_batch_norm(model.module, crops(photos, model.preprocess.size, 12))
    return model


def crops(photos, size, count) -> torch.Tensor:
    """Standardised crops of the photographs, float32 [count, 3, H, W]."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    pictures = [torch.from_numpy(picture).permute(2, 0, 1) for picture in photos.values()]
    rows = []
    for index in range(count):
        picture = pictures[index % len(pictures)]
        top = int(torch.randint(0, picture.shape[1] - height + 1, (), generator=generator))
        left = int(torch.randint(0, picture.shape[2] - width + 1, (), generator=generator))
        rows.append(picture[:, top : top + height, left : left + width])
    return torch.stack(rows).float() / 127.5 - 1


def settle_batch_norm(module: nn.Module, inputs: torch.Tensor) -> None:
    """Statistics of real pictures: with those of a fresh network, logits reach 1e11 and maps fall below 1e-9."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [norm.momentum for norm in norms]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average
        norm.train()
    with torch.no_grad():
        module(inputs)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
        norm.eval()
