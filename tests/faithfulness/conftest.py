"""What the tests of the measures share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

import fastxai as fx
from fastxai.models import Model
from fastxai.results import Found

SETTINGS = fx.Settings(precision="fp32", rows={"predict": 4, "scores": 8, "gradients": 4})
TARGETS = [[1, 4], [0, 5], [2, 3]]
METHODS = (fx.Lime(samples=30, segments=fx.Grid(4, 4)), fx.Saliency(), fx.GradCam(), fx.Random())


@pytest.fixture(scope="session")
def found(convolutional: Model, noise_pictures) -> Found:
    """Three pictures, two targets each, by four methods."""
    return fx.explain(convolutional, noise_pictures(3), METHODS, targets=TARGETS, settings=SETTINGS)


def score(found: Found, model: Model, measure, **options):
    return fx.score(found, model, measure, **{"settings": SETTINGS, **options})


def normalized(model: Model, pictures: Tensor) -> Tensor:
    """Model input of uint8 pictures (or of colours [1, C, 1, 1]), written out."""
    mean, std = (torch.tensor(v).reshape(-1, 1, 1) for v in (model.preprocess.mean, model.preprocess.std))
    return (pictures / 255 - mean) / std


def filled(model: Model, x: Tensor, fill, blur: float) -> Tensor:
    """What hidden pixels show, [C, H, W]."""
    if fill == "blur":
        return torch.from_numpy(np.stack([gaussian_filter(plane.numpy(), blur, mode="nearest") for plane in x]))
    if fill == "mean":
        return x.mean((1, 2), keepdim=True).expand_as(x)
    colour = (0.0,) * len(x) if fill == "black" else fill
    return normalized(model, torch.tensor(colour).reshape(1, -1, 1, 1))[0].expand_as(x)


def answer(model: Model, x: Tensor, target: int, kind: str) -> float:
    with torch.no_grad():
        logits = model.module(x[None])[0].double()
    return float((logits if kind == "logit" else logits.softmax(0))[target])


def cells(config, height: int, width: int) -> np.ndarray:
    """The number of every pixel's unit, [H, W]."""
    if config.segments is None:
        return np.arange(height * width).reshape(height, width)
    grid = config.segments
    return np.array([[y * grid.rows // height * grid.columns + x * grid.columns // width for x in range(width)]
                     for y in range(height)])  # fmt: skip


def with_maps(found: Found, name: str, maps: Tensor) -> Found:
    """The same results with other maps for one method."""
    result = replace(found[name], data={**found[name].data, "maps": maps})
    return replace(found, methods={**found.methods, name: result})
