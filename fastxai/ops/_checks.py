"""Argument checks shared by the ops: name, dtype, shape, device and label range, once, before any work starts."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from numbers import Real

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from fastxai.errors import ArgumentError, ArgumentTypeError

IMPLEMENTATIONS = ("torch", "numba", "cuda")


def check_tensor(name: str, value: Tensor, dtypes: Sequence[torch.dtype], dims: str, sizes: dict[str, int]) -> None:
    """`value` has one of `dtypes` and the shape `dims`, such as "B C H W".

    A letter met for the first time is entered into `sizes`; met again, it must have the same size. A number is the
    size itself. A leading "..." stands for any number of axes.
    """
    if not isinstance(value, Tensor):
        raise ArgumentTypeError(f"{name} must be a tensor, got {type(value).__name__}")
    letters = dims.split()
    rest = letters[1:] if letters[0] == "..." else letters
    shape = tuple(value.shape)
    if letters[0] == "...":
        shape = shape[max(0, len(shape) - len(rest)) :]
    known = {**sizes, **{d: int(d) for d in rest if d.isdigit()}}
    fits = len(shape) == len(rest) and all(known.get(d, size) == size for d, size in zip(rest, shape, strict=True))
    if value.dtype not in dtypes or not fits:
        kinds = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        wanted = ", ".join(f"{d}={sizes[d]}" if d in sizes else d for d in letters)
        raise ArgumentError(
            f"{name} must be {kinds} [{wanted}], got {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
        )
    sizes.update(zip(rest, shape, strict=True))


def check_not_empty(name: str, value: Tensor) -> None:
    if value.numel() == 0:
        raise ArgumentError(f"{name} must not be empty, got shape {list(value.shape)}")


def check_devices(**tensors: Tensor) -> torch.device:
    """The device that all of `tensors` are on, which is one that holds values."""
    (first, device), *others = ((name, tensor.device) for name, tensor in tensors.items())
    if device.type == "meta":
        raise ArgumentError(f"{first} must be on a device that holds values, got {device}")
    for name, other in others:
        if other != device:
            raise ArgumentError(f"{name} must be on {device} like {first}, got {other}")
    return device


def check_index(name: str, value: Tensor, count: int) -> None:
    """All of an integer tensor lies in 0..count-1. On a GPU this waits for `value`."""
    if value.numel():
        low, high = (int(v) for v in torch.aminmax(value))
        if low < 0 or high >= count:
            raise ArgumentError(f"{name} must be between 0 and {count - 1}, got values from {low} to {high}")


_ranges: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def _lasting_range(tensor: Tensor) -> tuple[int, int]:
    """Smallest and largest value, remembered for as long as the tensor lives unchanged.

    One label map serves hundreds of calls, and reading its range back makes a GPU wait.
    """
    version = None if tensor.is_inference() else tensor._version
    known = _ranges.get(tensor)
    if known is None or version is None or known[0] != version:
        low, high = (int(v) for v in torch.aminmax(tensor)) if tensor.numel() else (0, -1)
        known = (version, low, high)
        _ranges[tensor] = known
    return known[1], known[2]


def check_labels(labels: Tensor, segments: int, what: str) -> None:
    """All labels lie in 0..segments-1; `what` says where `segments` comes from."""
    low, high = _lasting_range(labels)
    if low < 0 or high >= segments:
        raise ArgumentError(f"labels must be between 0 and {segments - 1} ({what}), got values from {low} to {high}")


def check_keys(keys: Tensor) -> None:
    """All words of keys fit 32 bits."""
    low, high = _lasting_range(keys)
    if low < 0 or high >= 2**32:
        raise ArgumentError(f"keys must be between 0 and {2**32 - 1}, got values from {low} to {high}")


def check_moments(mean: Sequence[float], std: Sequence[float], channels: int) -> None:
    """One finite mean and one finite, positive std per channel."""
    for name, values in (("mean", mean), ("std", std)):
        if not isinstance(values, Collection) or not all(isinstance(value, Real) for value in values):
            raise ArgumentTypeError(f"{name} must be a sequence of numbers, got {values!r}")
        if len(values) != channels:
            raise ArgumentError(f"{name} must have one number per channel ({channels}), got {tuple(values)}")
        if not all(math.isfinite(value) for value in values):
            raise ArgumentError(f"{name} must be finite, got {tuple(values)}")
    if not all(value > 0 for value in std):
        raise ArgumentError(f"std must be positive, got {tuple(std)}")


def choose(implementation: str | None, default: str, offered: Sequence[str]) -> str:
    """The implementation to use: the op's default for the device, or the one that a test asks for."""
    chosen = default if implementation is None else implementation
    if chosen not in offered:
        raise ArgumentError(f"implementation must be one of {', '.join(offered)}, got {implementation!r}")
    return chosen


def default_for(device: torch.device, cpu: str = "torch", cuda: str = "torch") -> str:
    """The whole device seam. AMD builds of torch also call their device "cuda": they, like any other, use torch."""
    if device.type == "cpu":
        return cpu
    if device.type == "cuda" and torch.version.cuda is not None:
        return cuda
    return "torch"
