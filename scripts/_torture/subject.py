"""What is tortured: small pictures, a tiny network, three methods; a run of them takes under a second.

`_torture.subject:model` is also what `fastxai explain --model` is given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

import fastxai as fx

SIZE = 24
METHODS = [
    "lime:samples=16,segments=slic(segments=9)",
    "gradient-shap:samples=4",
    "gradcam",
]
# Given, not calibrated: every run is to have the same. One thread, so that no pool of threads stands in a fork's way.
SETTINGS = fx.Settings(precision="fp32", rows={"predict": 8, "scores": 16, "gradients": 16, "directions": 2}, threads=1)


def model() -> fx.Model:
    """Two convolutions with fixed weights, six classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, 2, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 6),
        )
    preprocess = fx.Preprocess((SIZE, SIZE), None, "bilinear", (0.5,) * 3, (0.5,) * 3)
    return fx.Model(module, preprocess, precision="fp32", compile=False, device="cpu")


def pictures(folder: Path, count: int, size: int = SIZE) -> Path:
    """A new folder of `count` PNG files of size x size pixels, all different: waves with noise."""
    folder.mkdir(parents=True)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    for number in range(count):
        rng = np.random.default_rng(number)
        waves = [127 + 80 * np.sin(a * y + b * x + c) for a, b, c in rng.uniform(0.1, 0.9, (3, 3))]
        picture = np.stack(waves, axis=2) + rng.normal(0, 20, (size, size, 3))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{number:04}.png")
    return folder


def explain(out: Path, images: Path, **options: Any) -> fx.Run:
    """`fastxai.run` of the subject, beginning a run or going on with it."""
    given: dict[str, Any] = {"settings": SETTINGS, "shard_images": 3, "batch": 3, "resume": True}
    return fx.run(model(), images, METHODS, out=out, **(given | options))
