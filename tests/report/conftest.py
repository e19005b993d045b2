"""Results as the engine would give them, made without a model from real pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from skimage.segmentation import quickshift
from skimage.transform import resize

from fastxai.explainers import GradCam, GradientShap, Lime
from fastxai.results import Found, MethodResult
from fastxai.types import Preprocess, Status

CLASSES = (
    "tabby, tabby cat",
    "tiger cat",
    "Egyptian cat",
    "espresso",
    "missile",
    "projectile, missile",
    "space shuttle",
)

Build = Callable[..., Found]


def smooth_noise(generator: torch.Generator, shape: tuple[int, ...], size: tuple[int, int]) -> torch.Tensor:
    """Random blobs [*shape, H, W] with zero mean."""
    small = torch.randn(*shape, 7, 7, generator=generator).view(1, -1, 7, 7)
    return torch.nn.functional.interpolate(small, size=size, mode="bicubic").view(*shape, *size)


@pytest.fixture(scope="session")
def build(photos: dict[str, np.ndarray]) -> Build:
    """`build(ids=..., size=..., targets=..., channels=...)` -> Found with LIME, GradientSHAP and Grad-CAM."""

    def made(
        ids: Sequence[str] = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png"),
        size: tuple[int, int] = (224, 224),
        targets: int = 1,
        channels: int = 3,
        methods: Sequence[str] = ("lime", "gradient-shap", "gradcam"),
    ) -> Found:
        generator = torch.Generator().manual_seed(7)
        names = list(photos)
        pictures, labels, counts, sizes = [], [], [], []
        for number in range(len(ids)):
            original = photos[names[number % len(names)]]
            picture = (resize(original, size, anti_aliasing=True) * 255).astype(np.uint8)
            labels.append(
                torch.from_numpy(quickshift(picture, kernel_size=4, max_dist=200, ratio=0.2).astype(np.int32))
            )
            counts.append(int(labels[-1].max()) + 1)
            planes = torch.from_numpy(picture).permute(2, 0, 1)
            pictures.append(planes[torch.arange(channels) % 3])
            sizes.append(original.shape[:2])
        number, most = len(ids), max(counts)
        segments = torch.stack(labels)
        weights = torch.full((number, targets, most), float("nan"))
        for image, count in enumerate(counts):
            weights[image, :, :count] = 0.1 * torch.randn(targets, count, generator=generator)
        maps = torch.stack(
            [torch.stack([weights[i, k][labels[i].long()] for k in range(targets)]) for i in range(number)]
        )
        grain = torch.randn(number, targets, *size, generator=generator)
        cam = smooth_noise(generator, (number, targets), size).clamp(min=0)
        results = {
            "lime": MethodResult(
                Lime(),
                {"maps": maps, "weights": weights, "score": torch.full((number, targets), 0.83)},
                segments,
                torch.tensor(counts),
            ),
            "gradient-shap": MethodResult(
                GradientShap(), {"maps": 1e-3 * grain * smooth_noise(generator, (number, targets), size)}
            ),
            "gradcam": MethodResult(
                GradCam(),
                {
                    "maps": cam / cam.amax((-2, -1), keepdim=True),
                    "native": torch.randn(number, targets, 7, 7, generator=generator),
                },
            ),
        }
        return Found(
            ids=tuple(ids),
            digests=tuple(f"{i:032x}" for i in range(number)),
            status=torch.zeros(number, dtype=torch.uint8),
            errors=("",) * number,
            sizes=torch.tensor(sizes, dtype=torch.int32),
            crops=torch.zeros(number, 4),
            labels=torch.full((number,), -1),
            images=torch.stack(pictures),
            predictions=torch.tensor([[2, 1, 0, 6, 4]] * number, dtype=torch.int32),
            probabilities=torch.tensor([[0.512, 0.231, 0.118, 0.031, 0.004]] * number),
            targets=torch.tensor([[2, 1, 5][:targets]] * number),
            methods={name: results[name] for name in methods},
            preprocess=Preprocess(size=size, resize=None),
            seed=0,
            class_names=CLASSES,
        )

    return made


@pytest.fixture(scope="session")
def found(build: Build) -> Found:
    """Four explained pictures of 224 x 224."""
    return build()


@pytest.fixture
def failed(found: Found) -> Found:
    """The same, where the second picture could not be read."""
    from dataclasses import replace

    status = found.status.clone()
    status[1] = int(Status.UNREADABLE)
    return replace(found, status=status, errors=("", "broken data stream", "", ""))
