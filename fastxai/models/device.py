"""Devices and number formats: what is there, what it can do, and exact float32 while a session is open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from fastxai.errors import ArgumentError, ArgumentTypeError, CannotRun

PRECISIONS = ("fp32", "bf16", "fp16")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def find_device(device: str | torch.device) -> torch.device:
    """ "auto" (CUDA where it is usable, else the CPU), "cpu", "cuda" or "cuda:1" -> a device that exists."""
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    if not isinstance(device, (str, torch.device)):
        raise ArgumentTypeError(f"device must be a text such as auto, cpu or cuda, got {device!r}")
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise ArgumentError(f"device must be auto, cpu, cuda or cuda:N, got {str(device)!r}")
    if found.type == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise CannotRun(f"device {found} is not usable here: torch {torch.__version__} finds no CUDA device")
    if found.index is not None and found.index >= torch.cuda.device_count():
        raise CannotRun(f"device {found} does not exist: there are {torch.cuda.device_count()} CUDA devices")
    return found if found.index is not None else torch.device("cuda", torch.cuda.current_device())


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that the device cannot compute in."""
    if precision not in PRECISIONS:
        raise ArgumentError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision == "fp16" and device.type == "cpu":
        raise ArgumentError("precision must be fp32 or bf16 on the CPU (fp16 is slow there and underflows), got 'fp16'")


def check_compiler(device: torch.device) -> None:
    """`torch.compile` for the CPU needs a C++ compiler; say so before it fails deep inside."""
    names = [os.environ.get("CXX", ""), "g++", "clang++", "c++"]
    if device.type == "cpu" and not any(name and shutil.which(name) for name in names):
        raise CannotRun("compile needs a C++ compiler (g++ or clang++), and none is installed: use compile=False")


@contextmanager
def exact_float32() -> Iterator[None]:
    """No TF32 (CUDA) and no bf16 (oneDNN) inside float32 products; the global switches are put back afterwards."""
    backends = torch.backends
    try:
        matmul, cudnn = torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32
    except RuntimeError:  # the caller mixed torch's old and new switches, which the old ones refuse to read
        with _exact_float32_each():
            yield
        return
    try:
        torch.set_float32_matmul_precision("highest")
        backends.cudnn.allow_tf32 = False
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        backends.cudnn.allow_tf32 = cudnn


@contextmanager
def _exact_float32_each() -> Iterator[None]:
    backends: Any = torch.backends
    switches = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    switches += [backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]
    found = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, value in zip(switches, found, strict=True):
            switch.fp32_precision = value
