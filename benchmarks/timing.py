"""How benchmarks measure: op, peer and limit take turns in one run, medians count, and a GPU is waited for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

Call = Callable[[], object]


@dataclass(frozen=True)
class Figure:
    """One measured call. ratio: how many times faster than the peer; share: of the speed that the limit allows."""

    name: str
    device: str
    work: str
    seconds: float
    peer: str
    peer_seconds: float
    limit: str
    limit_seconds: float

    @property
    def ratio(self) -> float:
        return self.peer_seconds / self.seconds

    @property
    def share(self) -> float:
        return self.limit_seconds / self.seconds

    def record(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio, "share": self.share}

    def __str__(self) -> str:
        return (
            f"{self.name} [{self.work}] {self.device}: {1e3 * self.seconds:.4g} ms, {self.ratio:.2f}x {self.peer} "
            f"({1e3 * self.peer_seconds:.4g} ms), {self.share:.0%} of {self.limit}"
        )


def medians(calls: dict[str, Call], device: torch.device, rounds: int) -> dict[str, float]:
    """Median seconds of each call. They take turns, so that a slow spell of the machine meets them all alike."""
    repeats = {}
    for name, call in calls.items():
        _seconds(call, device, 1)  # compiles, loads, warms up
        # A GPU works through a queue: enough calls in a row that neither launch nor wait is what gets measured.
        repeats[name] = 1 if device.type == "cpu" else max(1, min(200, int(2e-3 / _seconds(call, device, 3))))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(_seconds(call, device, repeats[name]))
    return {name: statistics.median(values) for name, values in found.items()}


def _seconds(call: Call, device: torch.device, repeats: int) -> float:
    """Of one call, averaged over `repeats` in a row."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / repeats


def copier(moved: int, device: torch.device) -> Call:
    """A copy that reads and writes `moved` bytes in all: the limit of an op that must move that many."""
    source = torch.zeros(max(1, moved // 2), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def size_in_bytes(*tensors: torch.Tensor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
