"""Source -> decode and segment -> engine -> results in hand or shards on disk, overlapped.

Pictures are decoded and segmented in threads while the model works on the batch before; every stage is bounded, so
memory is flat however long the run. On a CUDA device pictures are there before they are used, and results are on
their way back while the next batch is in work.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastxai.config import check_float, check_int
from fastxai.engine import Engine
from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.explainers import Explainer, as_explainers
from fastxai.images import Source, load_batches, open_source
from fastxai.models import Model, Session, calibrate
from fastxai.overlap import Background, ahead, late
from fastxai.packing import BUDGETS, bytes_in_work, images_in_work
from fastxai.results import Found, RunSummary, Timing, collect
from fastxai.segments import segment_batch
from fastxai.store import Run, ShardWriter, create_run, describe, is_run, open_run
from fastxai.store import check_out as check_folder
from fastxai.targets import Targets, parse_targets
from fastxai.transfer import Arrival
from fastxai.types import ExplainedBatch, ImageBatch, Progress, Settings, Status

OnProgress = Callable[[Progress], None]

WORKERS = 2  # threads that decode, and threads that segment


def explain(
    model: Model,
    images: Any,
    explainers: Any,
    *,
    targets: Any = "top1",
    seed: int = 0,
    labels: Any = None,
    normalized: bool = False,
    settings: Settings | None = None,
    batch: int | None = None,
    progress: OnProgress | None = None,
) -> Found:
    """Explain pictures and return the results in memory.

    images: paths, PIL images, uint8 arrays [N, H, W, 3], a tensor [N, 3, H, W] (uint8, or float in [0, 1]; with
    `normalized` ready model input), or a map-style Dataset. explainers: one or several, of different names. targets:
    "top1", "topK", "all", "label", a class id, or ids [N] or [N, K]. settings: as an earlier run recorded them, or None
    to calibrate. batch: pictures in work together, which bounds memory and changes no result; None for as many as keep
    chunks of rows full.

    A picture that cannot be read or explained is a row with a status and a reason. Raises `ArgumentError` before any
    work starts, `CannotRun` where the model or the machine fails.
    """
    job = _Job.prepare(model, images, explainers, targets, seed, labels, normalized, batch)
    settings = settings or job.calibrate(len(job.source))
    with model.open(settings) as session:
        engine = job.engine(session)
        found = list(job.stream(engine, job.batch_for(engine), None, progress))
    return collect(
        found,
        job.explainers,
        preprocess=model.preprocess,
        seed=seed,
        class_names=model.classes,
        timings=_timings(engine),
    )


def run(
    model: Model,
    source: Any,
    explainers: Any,
    *,
    out: str | Path,
    resume: bool = False,
    targets: Any = "top1",
    seed: int = 0,
    labels: Any = None,
    normalized: bool = False,
    settings: Settings | None = None,
    batch: int | None = None,
    shard_images: int = 256,
    shard_seconds: float = 60.0,
    pixels: bool = True,
    store: str = "full",
    worker: str = "0",
    take: Callable[[str], bool] | None = None,
    progress: OnProgress | None = None,
) -> Run:
    """Explain pictures and stream the results to the run folder `out`; arguments as for `explain`.

    resume: go on with a run that exists in `out`: pictures it holds are skipped, its settings are used, and another
    configuration is refused. A shard closes every `shard_images` pictures or `shard_seconds`, whichever comes first.
    pixels: keep the pictures too. store: "full", or "compact" without the maps that can be rebuilt.

    worker, take: for several processes that write into one run: a name that no other uses, and which image ids are
    this one's.

    Returns the run, open for reading; `Run.summary` is the `RunSummary` of this call.
    """
    check_int("shard_images", shard_images, 1)
    check_float("shard_seconds", shard_seconds, 0, above=True)
    check_folder(out)
    if is_run(out) and not resume:
        raise ArgumentError(f"out must be a new folder, got the run {str(out)!r}: set resume to go on with it")
    job = _Job.prepare(model, source, explainers, targets, seed, labels, normalized, batch)
    if take is not None:
        job = replace(job, source=Source([entry for entry in job.source if take(entry.id)]))
    config = describe(
        job.explainers,
        targets=job.targets.describe(),
        targets_per_image=job.targets.count,
        seed=seed,
        model=model.describe(),
        preprocess=model.preprocess,
        pixels=pixels,
        store=store,
        class_names=model.classes,
    )
    done: dict[str, str] = {}
    began = time.perf_counter()
    if is_run(out):
        manifest = create_run(
            out, config, Settings()
        )  # refuses another configuration; keeps the settings that are there
        done = open_run(out).done()
    else:
        manifest = create_run(out, config, settings or job.calibrate(len(job.source)), source=_named(source))
    calibrated = time.perf_counter()
    with (
        model.open(manifest.settings) as session,
        ShardWriter(out, manifest.config, worker, shard_images=shard_images, shard_seconds=shard_seconds) as writer,
        Background(writer.append, depth=1) as write,
    ):
        engine = job.engine(session)
        writer.rows = engine.rows
        together = job.batch_for(engine)
        explained = failed = 0
        for part in job.stream(engine, together, done, progress):
            write(part)
            explained += len(part.images)
            failed += sum(status is not Status.OK for status in part.images.status)
    finished = open_run(out)
    finished.summary = RunSummary(
        images=explained,
        failed=failed,
        skipped=len(job.source) - explained,
        seconds=time.perf_counter() - calibrated,
        calibration_seconds=calibrated - began,
        timings=_timings(engine),
        settings=manifest.settings,
        rows=engine.rows,
        batch=together,
    )
    return finished


def _named(source: Any) -> str:
    """Where the images came from, in words."""
    paths = source if isinstance(source, (list, tuple)) else [source]
    if all(isinstance(path, (str, os.PathLike)) for path in paths):
        return ", ".join(os.fsencode(path).decode("utf-8", "backslashreplace") for path in paths)
    return repr(source) if isinstance(source, Source) else type(source).__name__


def _timings(engine: Engine) -> dict[str, Timing]:
    return {name: Timing(spent.seconds, spent.rows) for name, spent in engine.spent.items()}


@dataclass(frozen=True)
class _Job:
    """Checked arguments: everything that can be refused has been."""

    model: Model
    source: Source
    explainers: tuple[Explainer, ...]
    targets: Targets
    layers: tuple[str, ...]
    seed: int
    batch: int | None

    @classmethod
    def prepare(
        cls,
        model: Model,
        images: Any,
        explainers: Any,
        targets: Any,
        seed: int,
        labels: Any,
        normalized: bool,
        batch: int | None,
    ) -> _Job:
        if not isinstance(model, Model):
            raise ArgumentTypeError(f"model must be a fastxai Model (see load_model), got {type(model).__name__}")
        check_int("seed", seed, 0, 2**32 - 1)
        if batch is not None:
            check_int("batch", batch, 1)
        found = as_explainers(explainers)
        source = open_source(images, labels=labels, normalized=normalized)
        ids = [entry.id for entry in source]
        settled = tuple(explainer.settle(model.preprocess, ids) for explainer in found)
        # One short session finds what only a running model knows, so that a wrong layer or target is refused now.
        with model.open(Settings(device=str(model.device))) as session:
            rule = parse_targets(targets, classes=session.classes_out, ids=ids)
            for explainer in settled:
                explainer.check_targets(rule.count)
            layers = tuple(dict.fromkeys(layer for explainer in settled for layer in explainer.layers(session)))
        return cls(model, source, settled, rule, layers, seed, batch)

    @property
    def rows(self) -> Mapping[str, int]:
        """Rows an image by probe kind, beside the prediction pass."""
        rows: dict[str, int] = {}
        for explainer in self.explainers:
            for kind, count in explainer.row_count(self.targets.count).items():
                rows[kind] = rows.get(kind, 0) + count
        return {kind: count for kind, count in rows.items() if count}

    def calibrate(self, images: int) -> Settings:
        kinds = {kind: count * images for kind, count in self.rows.items()}
        return calibrate(self.model, kinds=kinds, targets=self.targets.count, layers=self.layers)

    def engine(self, session: Session) -> Engine:
        return Engine(session, self.explainers, self.targets, self.seed)

    def batch_for(self, engine: Engine) -> int:
        """Images in work together: as asked for, or as chunks and memory suggest."""
        if self.batch is not None:
            return self.batch
        session, count = engine.session, self.targets.count
        return images_in_work(
            [explainer.row_count(count) for explainer in self.explainers],
            session.settings.rows,
            targets=count,
            images=len(self.source),
            bytes_per_image=bytes_in_work(
                self.explainers,
                self.model.preprocess,
                targets=count,
                classes=session.classes_out,
                layers=len(self.layers),
                normalized=self.source.normalized,
            ),
            budget=BUDGETS[session.device.type],
        )

    def stream(
        self, engine: Engine, batch: int, done: Mapping[str, str] | None, progress: OnProgress | None
    ) -> Iterator[ExplainedBatch]:
        """Explain everything that is not `done` (image id -> digest), `batch` images after `batch` images."""
        model = self.model
        rates = engine.session.settings.rates
        seconds = sum(count / rates.get(kind, float("nan")) for kind, count in self.rows.items())
        report = _Report(len(self.source), 1 + sum(self.rows.values()), seconds, progress)
        engine.on_rows = report.rows_done

        def skip(image_id: str, digest: str) -> bool:
            known = done is not None and done.get(image_id) == digest
            if known:
                report.skipped()
            return known

        loaded = load_batches(
            self.source,
            model.preprocess,
            batch=batch,
            class_names=model.classes,
            class_keys=model.class_keys,
            workers=WORKERS,
            prefetch=max(1, 2 * WORKERS // batch),
            skip=skip if done else None,
        )
        report.starts()
        with closing(ahead(self._sent(engine, loaded), depth=1)) as batches:
            for started in late((engine.start(images, sent) for images, sent in batches), engine.transfer.behind):
                explained = started.finish()
                report.images_done(explained.images)
                yield explained

    def _sent(self, engine: Engine, batches: Iterator[ImageBatch]) -> Generator[tuple[ImageBatch, Arrival]]:
        """The batches with their segments, on their way to the device."""
        segmenters = [segmenter for explainer in self.explainers for segmenter in explainer.segmenters()]
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="fastxai-segments") as pool:
            for batch in batches:
                segment_batch(batch, segmenters, pool)
                yield batch, engine.send(batch)


class _Report:
    """Counts images and rows for the progress callback; asked from worker threads too."""

    def __init__(self, images: int, rows: int, seconds: float, callback: OnProgress | None) -> None:
        """rows and seconds are those of one image; seconds is NaN where calibration did not measure them."""
        self.callback, self.per_image, self.seconds_per_image = callback, rows, seconds
        self.began, self.lock = time.perf_counter(), threading.Lock()
        self.total, self.images, self.failed, self.rows = images, 0, 0, 0

    def starts(self) -> None:
        self._tell("")

    def skipped(self) -> None:
        with self.lock:
            self.total -= 1

    def rows_done(self, method: str, rows: int) -> None:
        self.rows += rows
        self._tell(method)

    def images_done(self, batch: ImageBatch) -> None:
        self.images += len(batch)
        self.failed += sum(status is not Status.OK for status in batch.status)
        # Failed images ask for fewer rows; adaptive methods for other numbers of them.
        self.rows = self.images * self.per_image
        self._tell("")

    def _tell(self, method: str) -> None:
        if self.callback is not None:
            total = max(self.total * self.per_image, self.rows)
            seconds = time.perf_counter() - self.began
            expected = self.total * self.seconds_per_image
            expected = expected if expected == expected else float("inf")
            self.callback(Progress(self.images, self.total, self.failed, method, self.rows, total, seconds, expected))
