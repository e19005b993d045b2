"""Results as the engine would give them, made without a model from real pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.segmentation import quickshift
from skimage.transform import resize

from fastxai.explainers import GradCam, GradientShap, Lime
from fastxai.results import Found, MethodResult
from fastxai.store import Run, ShardWriter, create_run, describe, open_run
from fastxai.types import ExplainedBatch, ImageBatch, Preprocess, Segments, Settings, Status

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
    status = found.status.clone()
    status[1] = int(Status.UNREADABLE)
    return replace(found, status=status, errors=("", "broken data stream", "", ""))


def write_run(found: Found, folder: Path, **changes: object) -> Run:
    """`found` as a run on disk; fields that it does not hold are zeros. changes: of the run's configuration."""
    explainers = [found[name].explainer for name in found]
    height, width = found.preprocess.size
    values: dict[str, object] = {
        "targets": "top1",
        "targets_per_image": found.targets.shape[1],
        "seed": found.seed,
        "model": {"name": "toy", "fingerprint": "ab" * 16},
        "preprocess": found.preprocess,
        "class_names": found.class_names,
    }
    config = describe(explainers, **(values | changes))
    create_run(folder, config, Settings(), "made up")
    methods, segments = {}, {}
    for explainer in explainers:
        result = found[explainer.name]
        lengths = {"target": found.targets.shape[1], "y": height, "x": width, "cam_y": 7, "cam_x": 7}
        if result.segments is not None:
            lengths["segment"] = result.weights.shape[-1]
            segments[explainer.segmenters()[0].key] = Segments(result.segments, result.counts)
        methods[explainer.name] = {
            field.name: result.data[field.name]
            if field.name in result.data
            else torch.zeros(len(found), *(lengths[dim] for dim in field.dims), dtype=getattr(torch, field.dtype))
            for field in explainer.fields()
        }
    images = ImageBatch(
        ids=list(found.ids),
        digests=list(found.digests),
        status=[Status(int(status)) for status in found.status],
        errors=list(found.errors),
        sizes=found.sizes,
        crops=found.crops,
        labels=found.labels,
        pixels=found.images if found.images is not None else torch.zeros(len(found), 3, height, width).byte(),
        segments=segments,
    )
    batch = ExplainedBatch(images, found.predictions, found.probabilities, found.targets, methods)
    with ShardWriter(folder, config, threads=1) as writer:
        writer.append(batch)
    return open_run(folder)


@pytest.fixture(scope="session")
def stored() -> Callable[..., Run]:
    """`stored(found, folder, **configuration)` -> the run on disk."""
    return write_run


HOSTILE_IDS = (
    "<script>window.hacked = 1</script>.png",
    '"><img src=x onerror="window.hacked = 2">.png',
    "</script><script>window.hacked = 3</script>",
    "line\nbreak\x1b[31m.png",
    "\u202egpj.right-to-left.png",
    "../../etc/passwd",
    "{{ 7 * 7 }}${window.hacked = 4}.png",
    "日本語/猫 🐈.jpeg",
)
PLAIN_IDS = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png")


@pytest.fixture(scope="session")
def varied(build: Build) -> Found:
    """Twelve small pictures with different classes and confidences, labels for most of them, two targets; hostile file
    names and class names; the last one failed."""
    ids = (*PLAIN_IDS, *HOSTILE_IDS)
    found = build(ids=ids, size=(64, 72), targets=2)
    count = len(ids)
    first = torch.tensor([number % 4 for number in range(count)])
    predictions = torch.stack([first, (first + 1) % 7, (first + 2) % 7, (first + 3) % 7, (first + 4) % 7], dim=1)
    share = torch.linspace(0.95, 0.25, count)
    probabilities = torch.stack([share, *((1 - share) / rank for rank in (2, 4, 8, 16))], dim=1)
    labels = torch.where(torch.arange(count) % 3 == 0, first, (first + 1) % 7)
    labels[4] = -1
    status = torch.zeros(count, dtype=torch.uint8)
    status[-1] = int(Status.UNREADABLE)
    return replace(
        found,
        predictions=predictions.int(),
        probabilities=probabilities,
        targets=torch.stack([first, (first + 1) % 7], dim=1),
        labels=labels,
        status=status,
        errors=("",) * (count - 1) + ("cannot be decoded: <b>broken</b>",),
        class_names=("<i>tabby</i>, cat", *CLASSES[1:]),
    )
