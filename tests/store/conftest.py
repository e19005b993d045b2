"""Synthetic explained images for the store: every kind of row, without a model."""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import pytest
import torch

from fastxai import ops
from fastxai.explainers import Explainer, GradCam, GradientShap, Lime
from fastxai.explainers.cam import displayed
from fastxai.segments import Grid
from fastxai.store import RunConfig, ShardWriter, create_run, describe, files
from fastxai.store.files import Disk
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
                fields["maps"] = torch.cat([displayed([native[None]], SIZE) for native in fields["native"]])
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

    def damage_map(self, folder: Path) -> None:
        """Flip a bit of what the first shard holds of the third image's gradient-shap map."""
        shard = folder / "shards" / "part-0-00000.h5"
        with h5py.File(shard) as file:
            place = file["entry/gradient-shap/maps"].id.get_chunk_info(2)
        broken = bytearray(shard.read_bytes())
        broken[place.byte_offset + place.size // 2] ^= 4
        shard.write_bytes(broken)


@pytest.fixture
def store_races() -> int:
    """How often two processes race for one worker's name."""
    return 8


class Killed(BaseException):
    """The process would be gone."""


class FaultyDisk(Disk):
    """A disk that fails, or kills, at the `at`-th operation (from 1), after half of it where it is a write.

    fault: an errno, or None to kill. lasting: of an error, the operations that fail from then on too. A killed process
    does nothing more: every later operation raises `Killed`, and `bury` does what the system would do.
    """

    def __init__(self, at: int = 0, fault: int | None = None, lasting: Sequence[str] = ()) -> None:
        self.at, self.fault, self.lasting = at, fault, lasting
        self.done: list[str] = []
        self.hit = ""  # the operation that failed
        self._lock = threading.Lock()
        self._files: list[FileIO] = []
        self._locks: list[Any] = []

    @property
    def dead(self) -> bool:
        return bool(self.hit) and self.fault is None

    def operate(self, name: str, *args: Any, **options: Any) -> Any:
        with self._lock:
            if self.dead:
                raise Killed
            self.done.append(name)
            now = len(self.done) == self.at
            if now:
                self.hit = name
            fails = now or (bool(self.hit) and name in self.lasting)
        real = getattr(super(), name)
        if fails:
            if name == "write" and now:
                stream, data, offset = args
                real(stream, memoryview(data)[: len(data) // 2], offset)
            if name == "close":
                real(*args)  # the descriptor is gone, whatever it says
            if self.fault is None:
                raise Killed
            raise OSError(self.fault, os.strerror(self.fault))
        found = real(*args, **options)
        if name in ("open", "open_spool"):
            self._files.append(found)
        if name == "lock":
            self._locks.append(found)
        return found

    def bury(self) -> None:
        """Close files and release locks, as the end of a process does."""
        for file in self._files:
            file.close()
        for lock in self._locks:
            lock.release(force=True)


OPERATIONS = tuple(name for name in vars(Disk) if not name.startswith("_"))
for _name in OPERATIONS:
    # each its own function: `operate` needs to know which one was called
    setattr(FaultyDisk, _name, lambda self, *args, _name=_name, **options: self.operate(_name, *args, **options))

CHANGES = tuple(name for name in OPERATIONS if name not in ("read", "close", "lock"))
FULL = (errno.ENOSPC, ("make_folder", "open", "open_spool", "write"))
BROKEN = (errno.EIO, ())
READ_ONLY = (errno.EROFS, CHANGES)


@pytest.fixture
def faults() -> SimpleNamespace:
    """The kinds of trouble."""
    return SimpleNamespace(
        FaultyDisk=FaultyDisk, Killed=Killed, OPERATIONS=OPERATIONS, FULL=FULL, BROKEN=BROKEN, READ_ONLY=READ_ONLY
    )


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FaultyDisk]:
    """Put a `FaultyDisk` in the place of the disk; the real one is back with `faulty(None)`."""
    used: list[FaultyDisk] = []
    real = files.disk

    def put(disk: FaultyDisk | None) -> FaultyDisk | None:
        monkeypatch.setattr(files, "disk", real if disk is None else disk)
        if disk is not None:
            used.append(disk)
        return disk

    yield put
    for disk in used:
        disk.bury()


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
