"""Peak memory of a phase: of the process on a CPU, of torch's allocator on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from fastxai.bench.turns import Turn

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Peak:
    """Bytes at the highest point of a phase, and how far that is above where the phase began. 0: not known here.

    CPU: resident set of the process, with everything else it holds. CUDA: what torch's allocator has handed out.
    """

    bytes: int = 0
    growth: int = 0


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """The peak of the `with` block, filled in at its end."""
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        torch.cuda.synchronize(device)
        peak.bytes = torch.cuda.max_memory_allocated(device)
    else:
        before, fresh = resident(), _restart_high_water()
        yield peak
        peak.bytes = _status("VmHWM") if fresh else 0
    peak.growth = max(0, peak.bytes - before) if peak.bytes else 0


def resident() -> int:
    """Bytes of this process that are in memory now."""
    return _status("VmRSS")


def _restart_high_water() -> bool:
    """Set the high-water mark to what is resident now; False where the system does not allow it."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _status(key: str) -> int:
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return 0


def watched(turn: Turn, peak: Peak, device: torch.device) -> Turn:
    """The same turn; `peak` keeps the highest of all its peaks."""

    def call() -> float:
        with peak_memory(device) as found:
            seconds = turn()
        peak.bytes, peak.growth = max(peak.bytes, found.bytes), max(peak.growth, found.growth)
        return seconds

    return call
