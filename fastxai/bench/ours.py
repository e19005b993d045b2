"""fastxai's own turns: the whole pipeline from files to closed shards, and the same from memory to memory."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from fastxai.bench.cases import Case
from fastxai.bench.turns import Turn
from fastxai.errors import CannotRun
from fastxai.models import Model
from fastxai.packing import BUDGETS, bytes_in_work, images_in_work
from fastxai.pipeline import explain, run
from fastxai.types import Progress, Settings

Clock = Callable[[], float]


def pictures_at_a_time(model: Model, case: Case, settings: Settings, images: int, layers: int, classes: int) -> int:
    """How many pictures a run over `images` has in work together; the model has `classes`, `layers` are recorded."""
    size = bytes_in_work([case.explainer], model.preprocess, targets=case.classes, classes=classes, layers=layers)
    return images_in_work(
        [case.explainer.row_count(case.classes)],
        settings.rows,
        targets=case.classes,
        images=images,
        bytes_per_image=size,
        budget=BUDGETS[torch.device(settings.device).type],
        lanes=settings.lanes,
    )


@dataclass
class Stream:
    """Watches a run's progress: when how many pictures were done.

    The steady state begins when the first pictures are done: until then the pipeline fills, and opening and compiling
    the model are over by then.
    """

    clock: Clock = time.perf_counter
    first: tuple[int, float] | None = field(default=None, init=False)

    def __call__(self, progress: Progress) -> None:
        if self.first is None and progress.images:
            self.first = (progress.images, self.clock())

    def seconds_an_image(self, total: int, end: float) -> float:
        """From the first pictures done to `end`, when all `total` were out: seconds a picture of the rest."""
        if self.first is None or self.first[0] >= total:
            raise CannotRun("images must be more than the pipeline takes at a time: a longer stream has a steady state")
        return (end - self.first[1]) / (total - self.first[0])


@dataclass(frozen=True)
class Work:
    """One case for one model, `batch` pictures at a time. paths: of the stream, those that fill the pipeline first."""

    model: Model
    case: Case
    settings: Settings
    paths: Sequence[Path]
    batch: int
    seed: int = 0


def pipeline_turn(work: Work, clock: Clock = time.perf_counter) -> Turn:
    """`fastxai.run` from the files to the closed shard, in the steady state."""

    def turn() -> float:
        folder = Path(tempfile.mkdtemp(prefix="fastxai-bench-"))
        stream = Stream(clock)
        try:
            made = run(
                work.model,
                [str(path) for path in work.paths],
                work.case.explainer,
                out=folder / "run",
                targets=work.case.targets,
                seed=work.seed,
                settings=work.settings,
                batch=work.batch,
                progress=stream,
            )
            end = clock()
            _refuse_failures(made.failures)
            return stream.seconds_an_image(len(work.paths), end)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    return turn


def memory_turn(work: Work, pixels: Tensor, clock: Clock = time.perf_counter) -> Turn:
    """`fastxai.explain` of pictures in memory, uint8 [N, C, H, W], results in memory, in the steady state."""

    def turn() -> float:
        stream = Stream(clock)
        found = explain(
            work.model,
            pixels,
            work.case.explainer,
            targets=work.case.targets,
            seed=work.seed,
            settings=work.settings,
            batch=work.batch,
            progress=stream,
        )
        end = clock()
        _refuse_failures(found.failures)
        return stream.seconds_an_image(len(pixels), end)

    return turn


def _refuse_failures(failures: dict[str, str]) -> None:
    for name, reason in failures.items():
        raise CannotRun(f"{len(failures)} pictures could not be explained, the first of them {name}: {reason}")
