"""Workers on this machine: processes that share out cores and GPUs."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from fastxai.config import check_int
from fastxai.distributed.job import Job
from fastxai.distributed.process import Process
from fastxai.distributed.sharding import Share
from fastxai.distributed.supervise import supervise
from fastxai.memory import release
from fastxai.models import Model
from fastxai.overlap import as_asked, check
from fastxai.pipeline.tally import OnProgress
from fastxai.store import Run


def run_local(
    job: Job, workers: int, *, model: Model | None = None, progress: OnProgress | None = None, stop: Any = None
) -> Run:
    """Do the job with `workers` processes; returns the run with the summary of all of them.

    This process begins the run, calibrated for a worker's part of the cores, and then only watches. model: the job's,
    if it is loaded already. Each worker sees one GPU where there are any and the job leaves the choice. progress, stop,
    errors: as for `fastxai.run`; workers that die are started again, see `supervise`.
    """
    check_int("workers", workers, 1)
    asked = as_asked(stop)
    began = time.perf_counter()
    settings = job.begin(workers, model=model).settings
    begun = time.perf_counter()
    check(asked)
    release(torch.device(settings.device))
    gpus = visible_gpus(os.environ) if job.device in ("auto", "cuda") and settings.device.startswith("cuda") else ()

    def start(share: Share) -> Process:
        return Process(job, share, {"CUDA_VISIBLE_DEVICES": gpus[share.index % len(gpus)]} if gpus else None)

    made = supervise(job, workers, start, progress=progress, asked=asked)
    assert made.summary is not None
    made.summary = replace(made.summary, calibration_seconds=begun - began)
    return made


def visible_gpus(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The GPUs that this process may use, by the names under which its children may use them too."""
    count = torch.cuda.device_count()
    named = environment.get("CUDA_VISIBLE_DEVICES")
    names = [str(index) for index in range(count)] if named is None else named.split(",")
    return tuple(name.strip() for name in names[:count])
