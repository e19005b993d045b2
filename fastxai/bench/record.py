"""The record of a benchmark: plain JSON data, and the arithmetic between its figures.

schema 1 · program "fastxai bench" · date (UTC, ISO 8601)
machine      device, cpu (name, cores), gpu (name or null), threads (torch's), memory_bytes, system
versions     fastxai, python, torch and the other packages that matter
model        as `Model.describe`, with `spec`
options      as `Options.to_dict`;  pictures: what they are
absent       peers that are not installed: name, install (the command that brings them)
left_out     what was asked for and makes no sense: what, why
cases        one entry a method and number of classes:
  method, explainer (its configuration), targets
  work         classes, samples (null: none), images, size [H, W]: of the measured stream
  settings     of the run, as run.json has them
  startup      imports, load, calibration, opening, compilation, total: seconds
  fastxai      a speed: the pipeline from files to closed shards, in the steady state
  memory       a speed: the same from memory to memory, or null where it was not measured
  limit        a speed: bare passes; rows (an image) of which kind; form (settings and rows a call); searched (rows
               a second of every form tried); failed (forms that do not run)
  arithmetic   a speed: the passes' operations at the speed of a large matrix product; flop an image, flop_per_second
               of the product and of the limit (limit_flop_per_second); null for a model without products, or with
               operators that cannot be counted
  share        limit / fastxai, of seconds an image
  agreement    of fastxai with itself: `fp32` (float32, eager; null where the run is that), `seed` (another seed, in
               the run's settings; null where nothing is random): each an agreement
  all_classes  where `work.classes` are a sample of all: classes of the model; fastxai_seconds_at_most and
               peer_seconds (by name) an image, which are the measured ones times classes / sample
  peers        name, version, call (how it is called), status ("measured", "absent", "failed"), why; and where
               measured: speed; pictures (explained in all turns together); ratio (peer / fastxai, of seconds an
               image); memory_ratio (peer / memory, or null); pays_after (pictures after which the start-up has
               paid, null: never); agreement (with fastxai)
A speed      seconds (an image, the median of `turns`), images_per_second, turns, peak_bytes and growth_bytes (0: not
             known; on a CPU the resident set of the whole process, growth from where the turn began)
An agreement rank_correlation, lowest, top10, pairs: see `fastxai.bench.agreement`
"""

from __future__ import annotations

import datetime
import math
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fastxai._version import __version__
from fastxai.bench.memory import Peak
from fastxai.bench.peers import PEERS
from fastxai.bench.turns import Times
from fastxai.packages import versions_of

SCHEMA, PROGRAM = 1, "fastxai bench"
_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scipy",
    "scikit-image",
    "numba",
    "h5py",
    "cupy-cuda12x",
    "cupy-cuda13x",
)


def head(device: torch.device) -> dict[str, Any]:
    """What stands above the cases whatever is measured: program, date, machine, versions."""
    cuda = device.type == "cuda"
    return {
        "schema": SCHEMA,
        "program": PROGRAM,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "device": device.type,
            "cpu": cpu_name(),
            "gpu": torch.cuda.get_device_name(device) if cuda else None,
            "threads": torch.get_num_threads(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "system": platform.platform(),
        },
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of fastxai, Python and every package here that a figure may depend on."""
    found = {"fastxai": __version__, "python": platform.python_version()}
    if torch.version.cuda is not None:
        found["cuda"] = torch.version.cuda
    return found | versions_of((*_PACKAGES, *PEERS))


def speed(times: Times, peak: Peak) -> dict[str, Any]:
    """One measured thing: seconds an image of all turns, and memory at its highest."""
    return {
        "seconds": times.seconds,
        "images_per_second": 1 / times.seconds,
        "turns": list(times.turns),
        "peak_bytes": peak.bytes,
        "growth_bytes": peak.growth,
    }


def ratio(peer: Times, ours: Times) -> float:
    """How many times faster than the peer."""
    return peer.seconds / ours.seconds


def share(limit: Times, ours: Times) -> float:
    """Of the speed that the limit allows: 1 is all of it."""
    return limit.seconds / ours.seconds


def operations(flop: int, times: Mapping[str, Times]) -> dict[str, Any]:
    """Floating point operations an image, and how many a second a matrix product and bare passes do."""
    rates = {"flop_per_second": "arithmetic", "limit_flop_per_second": "limit"}
    return {"flop": flop, **{key: flop / times[name].seconds for key, name in rates.items()}}


def pays_after(startup: float, peer: Times, ours: Times) -> int | None:
    """Pictures after which `startup` seconds are won back; None where we are not faster."""
    won = peer.seconds - ours.seconds
    return max(1, math.ceil(startup / won)) if won > 0 else None


def cpu_name() -> str:
    """What the CPU calls itself, and how many of its cores this process may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    cores = len(os.sched_getaffinity(0))
    return f"{named}, {cores} core{'s' * (cores > 1)}"
