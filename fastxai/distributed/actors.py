"""Workers anywhere in a Ray cluster: actors. Only the job (paths and options) and progress travel through Ray.

Every machine must find the pictures, the weights and the run's folder under the same paths, and have fastxai.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastxai.config import check_int
from fastxai.distributed.job import Job
from fastxai.distributed.sharding import Share
from fastxai.distributed.supervise import supervise
from fastxai.distributed.work import End, work
from fastxai.errors import ArgumentError, CannotRun, MissingExtra
from fastxai.overlap import Asked, Stop, Stopped, as_asked
from fastxai.pipeline.tally import OnProgress
from fastxai.store import Run
from fastxai.types import Progress

_LOOK = 0.2  # seconds between looks at the actor that begins the run


def run_on_ray(
    job: Job, workers: int, address: str | None = None, *, progress: OnProgress | None = None, stop: Any = None
) -> Run:
    """Do the job with `workers` Ray actors; returns the run with the summary of all of them.

    address: as for `ray.init`; None: the cluster of RAY_ADDRESS, or else one that is started on this machine and ends
    with the call. Each actor takes its part of the cluster's CPUs, and of its GPUs where there are any and the job
    leaves the choice. The first actor begins the run. progress, stop, errors: as for `fastxai.run`; actors that die
    are replaced, see `supervise`.
    """
    check_int("workers", workers, 1)
    asked = as_asked(stop)
    ray = _import_ray()
    with _cluster(ray, address):
        needs = _resources(ray, job, workers)
        remote = ray.remote(max_restarts=0, max_concurrency=4, **needs)(_Actor)
        folder = os.getcwd()
        began = time.perf_counter()
        _begin(ray, remote.remote(folder), job, workers, needs["num_cpus"], asked)
        begun = time.perf_counter()

        def start(share: Share) -> _Handle:
            return _Handle(ray, remote.remote(folder), job, share)

        made = supervise(job, workers, start, progress=progress, asked=asked)
    assert made.summary is not None
    made.summary = dataclasses.replace(made.summary, calibration_seconds=begun - began)
    return made


class _Actor:
    """The worker's side: one share of a job, in a process that Ray started."""

    def __init__(self, folder: str) -> None:
        """folder: where relative paths start."""
        self._folder, self._stop = folder, Stop()
        self._progress: Progress | None = None

    def begin(self, job: str, workers: int, threads: int) -> dict[str, Any]:
        """Begin the run, with settings for machines like this one; how that went, as `End.to_dict`."""
        self._enter()
        try:
            Job.from_json(job).begin(workers, threads=threads)
        except ArgumentError as error:
            return End("refused", str(error)).to_dict()
        except (CannotRun, OSError) as error:
            return End("failed", str(error)).to_dict()
        return End("done").to_dict()

    def work(self, job: str, share: str) -> dict[str, Any]:
        """Do a share; how it ended, as `End.to_dict`."""
        self._enter()
        return work(Job.from_json(job), Share.parse(share), progress=self._tell, stop=self._stop).to_dict()

    def look(self) -> Progress | None:
        """How far it is."""
        return self._progress

    def stop(self) -> None:
        """Ask `work` to stop."""
        self._stop.set()

    def _enter(self) -> None:
        try:
            os.chdir(self._folder)
        except OSError:
            return  # another machine: absolute paths may still be fine, and others are refused by name

    def _tell(self, progress: Progress) -> None:
        self._progress = progress


class _Handle:
    """The driver's side of an actor at work."""

    def __init__(self, ray: Any, actor: Any, job: Job, share: Share) -> None:
        self._ray, self._actor = ray, actor
        self._ends = actor.work.remote(job.to_json(), str(share))
        self._news = actor.look.remote()
        self._progress: Progress | None = None
        self._end: End | None = None

    def look(self) -> tuple[Progress | None, End | None]:
        """The latest progress and how it ended."""
        if self._end is None:
            ready, _ = self._ray.wait([self._news, self._ends], num_returns=2, timeout=0)
            if self._ends in ready:
                self._end = _result(self._ray, self._ends)
                self.kill()  # its process may hold a GPU whose context is lost, and its place is needed
            elif self._news in ready:
                self._hear()
        return self._progress, self._end

    def stop(self) -> None:
        """Ask it to stop."""
        self._actor.stop.remote()

    def kill(self) -> None:
        """End it now."""
        self._ray.kill(self._actor, no_restart=True)

    def _hear(self) -> None:
        try:
            self._progress = self._ray.get(self._news) or self._progress
        except self._ray.exceptions.RayError:
            return  # it died: `work` says so too
        self._news = self._actor.look.remote()


def _begin(ray: Any, actor: Any, job: Job, workers: int, threads: int, asked: Asked) -> None:
    ends = actor.begin.remote(job.to_json(), workers, threads)
    try:
        while not ray.wait([ends], timeout=_LOOK)[0]:
            if asked():
                raise Stopped("stopped as asked before anything was explained")
    finally:
        end = _result(ray, ends) if ray.wait([ends], timeout=0)[0] else None
        ray.kill(actor, no_restart=True)
    if end is not None and end.kind == "refused":
        raise ArgumentError(end.why)
    if end is None or end.kind != "done":
        raise CannotRun(end.why if end is not None else "the actor that began the run is gone")


def _result(ray: Any, ends: Any) -> End:
    try:
        return End.from_dict(ray.get(ends))
    except ray.exceptions.RayError as error:
        return End("died", " ".join(str(error).split())[:300])


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("work on a Ray cluster", "ray") from error
    return ray


@contextmanager
def _cluster(ray: Any, address: str | None) -> Iterator[None]:
    """Connected to a cluster; one that the caller is connected to already is used and left as it is."""
    if ray.is_initialized():
        yield
        return
    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    starts = address is None and "RAY_ADDRESS" not in os.environ
    try:
        options: dict[str, Any] = {"address": "local", "include_dashboard": False} if starts else {"address": address}
        ray.init(logging_level="error", log_to_driver=False, **options)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise CannotRun(f"ray cannot be reached at {address or 'RAY_ADDRESS'}: {error}") from error
    try:
        if main:  # Ray takes SIGTERM for itself
            for number, handler in handlers.items():
                signal.signal(number, handler)
        yield
    finally:
        ray.shutdown()


def _resources(ray: Any, job: Job, workers: int) -> dict[str, Any]:
    """CPUs and GPUs an actor asks for: its part of what there is; `CannotRun` where there is less than one CPU each."""
    there = ray.cluster_resources()
    cpus, gpus = int(there.get("CPU", 0)) // workers, there.get("GPU", 0.0)
    if cpus < 1:
        raise CannotRun(f"the cluster has {there.get('CPU', 0):.0f} CPUs for {workers} workers: use fewer --workers")
    if job.device == "cpu" or not gpus:
        return {"num_cpus": cpus, "num_gpus": 0}
    return {"num_cpus": cpus, "num_gpus": 1 if gpus >= workers else int(100 * gpus / workers) / 100}
