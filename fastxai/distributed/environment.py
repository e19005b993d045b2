"""Which share is this process's own, as SLURM or torchrun say in the environment."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fastxai.distributed.sharding import Share
from fastxai.errors import ArgumentError

_SLURM = ("SLURM_PROCID", "SLURM_NTASKS")
_TORCHRUN = ("RANK", "WORLD_SIZE")
_LOCAL = ("LOCAL_RANK", "SLURM_LOCALID")


def share_here(environment: Mapping[str, str]) -> Share:
    """The share that `environment` gives this process.

    torchrun (RANK of WORLD_SIZE) comes first. SLURM: the task of a step (SLURM_PROCID of SLURM_NTASKS), the task of
    an array (SLURM_ARRAY_TASK_ID of SLURM_ARRAY_TASK_COUNT, from SLURM_ARRAY_TASK_MIN in steps of
    SLURM_ARRAY_TASK_STEP), or the tasks of a step in each task of an array. Raises `ArgumentError` where there is
    neither, and for an array with gaps.
    """
    if all(name in environment for name in _TORCHRUN):
        return Share(*(_number(environment, name) for name in _TORCHRUN))
    step = Share(*(_number(environment, name) for name in _SLURM)) if all(n in environment for n in _SLURM) else None
    array = _array(environment) if "SLURM_ARRAY_TASK_ID" in environment else None
    if step is None and array is None:
        raise ArgumentError(
            f"shard must be i/N where neither torchrun ({', '.join(_TORCHRUN)}) nor SLURM ({', '.join(_SLURM)}, "
            "SLURM_ARRAY_TASK_ID) has set its variables, got 'auto'"
        )
    step, array = step or Share(0, 1), array or Share(0, 1)
    return Share(array.index * step.count + step.index, array.count * step.count)


def device_here(device: str, environment: Mapping[str, str]) -> str:
    """`device`, or for "auto" and "cuda" the GPU that is this process's own where a machine has several."""
    local = next((name for name in _LOCAL if name in environment), None)
    if device not in ("auto", "cuda") or local is None or torch.cuda.device_count() < 2:
        return device
    return f"cuda:{_number(environment, local) % torch.cuda.device_count()}"


def _array(environment: Mapping[str, str]) -> Share:
    number, count = (_number(environment, f"SLURM_ARRAY_TASK_{name}") for name in ("ID", "COUNT"))
    first = _number(environment, "SLURM_ARRAY_TASK_MIN")
    step = _number(environment, "SLURM_ARRAY_TASK_STEP") if "SLURM_ARRAY_TASK_STEP" in environment else 1
    index, rest = divmod(number - first, max(1, step))
    if rest or not 0 <= index < count:
        raise ArgumentError(
            f"SLURM_ARRAY_TASK_ID must be one of {count} from {first} in steps of {step}, got {number}: name the share "
            "with --shard i/N"
        )
    return Share(index, count)


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    if not text.isdecimal():
        raise ArgumentError(f"{name} must be a whole number, got {text!r}")
    return int(text)
