"""Synthetic explained images for the store: every kind of row, without a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from fastxai import ops
from fastxai.explainers import Explainer, GradCam, GradientShap, Lime
from fastxai.explainers.gradcam import displayed
from fastxai.segments import Grid
from fastxai.store import RunConfig, ShardWriter, create_run, describe
from fastxai.types import ExplainedBatch, ImageBatch, Preprocess, Segments, Settings, Status

SIZE = (20, 24)
TARGETS = 2
PREPROCESS = Preprocess(size=SIZE, resize=(20, 24), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
EXPLAINERS = (
    Lime(samples=10, segments=Grid()),
    Lime(samples=20, segments=Grid(rows=2, columns=2), name="lime-coarse"),
    GradientShap(),
    GradCam(),
)


@dataclasses.dataclass
class Maker:
    """Makes configurations, batches and runs. Everything random about an image depends on its id alone."""

    root: Path
    explainers: tuple[Explainer, ...] = EXPLAINERS

    def config(self, **changes: Any) -> RunConfig:
        values: dict[str, Any] = {
            "targets": "top2",
            "targets_per_image": TARGETS,
            "seed": 0,
            "model": {"name": "toy", "fingerprint": "ab" * 16},
            "preprocess": PREPROCESS,
            "class_names": ("cat", "dog"),
        }
        return describe(self.explainers, **(values | changes))

    def batch(self, ids: Sequence[str], failed: Sequence[str] = (), digest: str = "0" * 32) -> ExplainedBatch:
        rows = [self._row(i, i in failed) for i in ids]
        stack = lambda name: torch.stack([row[name] for row in rows])  # noqa: E731
        status = [Status.UNREADABLE if i in failed else Status.OK for i in ids]
        segments = {}
        methods: dict[str, dict[str, torch.Tensor]] = {}
        broken = torch.tensor([s != Status.OK for s in status])
        for explainer in self.explainers:
            fields = {f.name: stack(f"{explainer.name}/{f.name}") for f in explainer.fields() if f.name != "weights"}
            if isinstance(explainer, Lime):
                labels, counts = stack(f"{explainer.name}/labels"), stack(f"{explainer.name}/count")
                labels[broken] = 0
                weights = [row[f"{explainer.name}/weights"] for row in rows]
                longest = max(1, int(counts.max()))
                fields["weights"] = torch.stack([_pad(w, longest) for w in weights])
                fields["maps"] = ops.paint(fields["weights"], labels)
                # What stands in rows that failed is anything.
                segments[explainer.segments.key] = Segments(labels + 1000 * broken[:, None, None].int(), counts)
            if isinstance(explainer, GradCam):
                # One by one: interpolation may round a picture by its batch.
                fields["maps"] = torch.cat([displayed(native[None], SIZE) for native in fields["native"]])
            for values in fields.values():
                if broken.any():
                    values[broken] = -1 if values.dtype == torch.int32 else float("nan")
            methods[explainer.name] = fields
        images = ImageBatch(
            ids=list(ids),
            digests=[digest] * len(ids),
            status=status,
            errors=["cannot be decoded: é" if i in failed else "" for i in ids],
            sizes=torch.tensor([[len(i), 7] for i in ids], dtype=torch.int32),
            crops=stack("crop"),
            labels=torch.tensor([len(i) for i in ids]),
            pixels=stack("pixels"),
            segments=segments,
        )
        targets = torch.where(broken[:, None], -1, stack("classes")[:, :TARGETS].long())
        return ExplainedBatch(images, stack("classes"), stack("probabilities"), targets, methods)

    def _row(self, image: str, failed: bool) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(sum(image.encode("utf-8")))
        height, width = SIZE
        row = {
            "pixels": torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8, generator=generator) * (not failed),
            "crop": torch.rand(4, generator=generator),
            "classes": torch.randint(0, 1000, (5,), dtype=torch.int32, generator=generator),
            "probabilities": torch.rand(5, generator=generator),
        }
        for explainer in self.explainers:
            # Ragged: the number of segments depends on the image.
            count = int(torch.randint(3, 9, (1,), generator=generator))
            y = torch.arange(height * width, dtype=torch.int32).reshape(SIZE)
            row[f"{explainer.name}/labels"] = (y * count).div(height * width, rounding_mode="floor").int()
            row[f"{explainer.name}/count"] = torch.tensor(0 if failed else count)
            row[f"{explainer.name}/weights"] = torch.randn(TARGETS, count, generator=generator)
            lengths = {"target": TARGETS, "y": height, "x": width, "cam_y": 3, "cam_x": 4, "segment": count}
            for field in explainer.fields():
                shape = [lengths[dim] for dim in field.dims]
                if field.name != "weights":
                    values = torch.randn(shape, generator=generator)
                    row[f"{explainer.name}/{field.name}"] = values.to(getattr(torch, field.dtype))
        return row

    def begin(self, name: str = "run", **changes: Any) -> tuple[Path, RunConfig]:
        config = self.config(**changes)
        create_run(self.root / name, config, Settings(), "synthetic")
        return self.root / name, config

    def writer(self, folder: Path, config: RunConfig, **options: Any) -> ShardWriter:
        return ShardWriter(folder, config, threads=1, **options)

    def run(self, ids: Sequence[str], failed: Sequence[str] = (), shard_images: int = 4, **changes: Any) -> Path:
        """A finished run of these images, appended in batches of three."""
        folder, config = self.begin(**changes)
        with self.writer(folder, config, shard_images=shard_images) as writer:
            for start in range(0, len(ids), 3):
                writer.append(self.batch(ids[start : start + 3], failed))
        return folder


def _pad(weights: torch.Tensor, length: int) -> torch.Tensor:
    keep = weights[:, :length]
    return torch.nn.functional.pad(keep, (0, length - keep.shape[1]), value=float("nan"))


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


@pytest.fixture
def ids() -> list[str]:
    return ["a.png", "b/ü.png", "b/日本.jpg", "c\nd.png", "..e", "<script>", "f" * 40, "g", "h", "i"]


@pytest.fixture
def same() -> Callable[[torch.Tensor, torch.Tensor], None]:
    """Bit-identical tensors, NaN equal to NaN."""

    def check(a: torch.Tensor, b: torch.Tensor) -> None:
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)

    return check
