"""`explain` and `run`: from arguments to results in hand, or to a run on disk."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fastxai.config import check_float, check_int
from fastxai.engine import Engine
from fastxai.errors import ArgumentError
from fastxai.images import Source
from fastxai.models import Model
from fastxai.overlap import Background, Stopped, as_asked
from fastxai.pipeline.plan import Plan
from fastxai.pipeline.streaming import stream
from fastxai.pipeline.tally import OnProgress
from fastxai.results import Found, RunSummary, Timing, collect
from fastxai.store import Manifest, Run, ShardWriter, create_run, describe, is_run, open_run
from fastxai.store import check_out as check_folder
from fastxai.threads import beside_model
from fastxai.types import Settings, Status


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
    chunks of rows full. progress: a function that is told how far it is, see `fastxai.Progress`, also for a tqdm bar.

    A picture that cannot be read or explained is a row with a status and a reason. Raises `ArgumentError` before any
    work starts, `CannotRun` where the model or the machine fails.
    """
    _check_batch(batch)
    plan = Plan.prepare(model, images, explainers, targets, seed, labels, normalized)
    settings = settings or plan.calibrate(len(plan.source))
    with model.open(settings) as session:
        engine = plan.engine(session)
        found = list(stream(plan, engine, batch or plan.batch_for(engine), None, progress))
    return collect(
        found,
        plan.explainers,
        preprocess=model.preprocess,
        seed=seed,
        class_names=model.classes,
        timings=_timings(engine),
    )


def begin(
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
    pixels: bool = True,
    store: str = "full",
    workers: int = 1,
    threads: int | None = None,
) -> Manifest:
    """Begin the run that `workers` processes will write, and explain nothing; arguments as for `run`.

    Settings are calibrated for a process that has its part of the pictures and `threads` of torch (None: its part of
    those found). A run that exists keeps its own.
    """
    check_int("workers", workers, 1)
    if threads is not None:
        check_int("threads", threads, 1)
    _check_out(out, resume)
    plan = Plan.prepare(model, source, explainers, targets, seed, labels, normalized)
    images = -(-len(plan.source) // workers)
    if threads is None and workers > 1:
        threads = max(1, torch.get_num_threads() // workers)
    return _begun(plan, lambda: settings or plan.calibrate(images, threads), Path(out), _named(source), pixels, store)


def run(
    model: Model,
    source: Any,
    explainers: Any,
    *,
    out: str | Path,
    resume: bool = False,
    retry_failed: bool = False,
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
    stop: Any = None,
) -> Run:
    """Explain pictures and stream the results to the run folder `out`; arguments as for `explain`.

    resume: go on with a run that exists in `out`: pictures it holds are skipped, its settings are used, and another
    configuration is refused. retry_failed: those that failed there are explained again. A shard closes every
    `shard_images` pictures or `shard_seconds`, whichever comes first. pixels: keep the pictures too. store: "full", or
    "compact" without the maps that can be rebuilt.

    worker, take: for several processes that write into one run: a name that no other uses, and which image ids are
    this one's. stop: a function or an Event that is looked at before every chunk of rows: when it is true, the batches
    that are finished are committed and `Stopped` is raised; a later call with `resume` goes on from there.

    Returns the run, open for reading; `Run.summary` is the `RunSummary` of this call.
    """
    check_int("shard_images", shard_images, 1)
    check_float("shard_seconds", shard_seconds, 0, above=True)
    _check_batch(batch)
    asked = as_asked(stop)
    _check_out(out, resume)
    if retry_failed and not resume:
        raise ArgumentError("retry_failed must come with resume, got a run that begins")
    joins = is_run(out)
    plan = Plan.prepare(model, source, explainers, targets, seed, labels, normalized)
    if take is not None:
        plan = plan.only(take)
    began = time.perf_counter()
    images = len(plan.source)
    manifest = _begun(plan, lambda: settings or plan.calibrate(images), Path(out), _named(source), pixels, store)
    done = open_run(out).done(failed=not retry_failed) if joins else {}
    calibrated = time.perf_counter()
    explained = failed = 0
    try:
        with (
            model.open(_here(manifest.settings, model) if joins else manifest.settings) as session,
            ShardWriter(out, manifest.config, worker, shard_images=shard_images, shard_seconds=shard_seconds) as writer,
            beside_model(session.device) as begin,
            Background(writer.append, depth=1, begin=begin) as write,
        ):
            engine = plan.engine(session, asked)
            writer.rows = engine.rows
            together = batch or plan.batch_for(engine)
            for part in stream(plan, engine, together, done, progress):
                write(part)
                explained += len(part.images)
                failed += sum(status is not Status.OK for status in part.images.status)
    except Stopped:
        raise Stopped(f"stopped as asked: {explained} images were explained, resume goes on from there") from None
    finished = open_run(out)
    finished.summary = RunSummary(
        images=explained,
        failed=failed,
        skipped=images - explained,
        seconds=time.perf_counter() - calibrated,
        calibration_seconds=calibrated - began,
        timings=_timings(engine),
        settings=manifest.settings,
        rows=engine.rows,
        batch=together,
    )
    return finished


def _check_batch(batch: int | None) -> None:
    if batch is not None:
        check_int("batch", batch, 1)


def _check_out(out: str | Path, resume: bool) -> None:
    check_folder(out)
    if is_run(out) and not resume:
        raise ArgumentError(f"out must be a new folder, got the run {str(out)!r}: set resume to go on with it")


def _begun(plan: Plan, settle: Callable[[], Settings], out: Path, source: str, pixels: bool, store: str) -> Manifest:
    """The run that is there, or a new one with the settings that `settle` finds. Another configuration is refused."""
    model = plan.model
    config = describe(
        plan.explainers,
        targets=plan.targets.describe(),
        targets_per_image=plan.targets.count,
        seed=plan.seed,
        model=model.describe(),
        preprocess=model.preprocess,
        pixels=pixels,
        store=store,
        class_names=model.classes,
    )
    return create_run(out, config, Settings() if is_run(out) else settle(), source)


def _here(settings: Settings, model: Model) -> Settings:
    """Recorded settings on this process's own GPU: which of several alike it is, decides no result."""
    if model.device.type == "cuda" and torch.device(settings.device).type == "cuda":
        return replace(settings, device=str(model.device))
    return settings


def _named(source: Any) -> str:
    """Where the images came from, in words."""
    paths = source if isinstance(source, (list, tuple)) else [source]
    if all(isinstance(path, (str, os.PathLike)) for path in paths):
        return ", ".join(os.fsencode(path).decode("utf-8", "backslashreplace") for path in paths)
    return repr(source) if isinstance(source, Source) else type(source).__name__


def _timings(engine: Engine) -> dict[str, Timing]:
    return {name: Timing(spent.seconds, spent.rows) for name, spent in engine.spent.items()}
