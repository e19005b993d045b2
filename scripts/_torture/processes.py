"""Processes to torture: forked from this one, which has loaded everything, so that each starts in milliseconds."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PR_SET_CHILD_SUBREAPER = 36  # <sys/prctl.h>
SURVIVORS_SECONDS = 10.0  # within which everything that a killed process started must be gone


@dataclass(frozen=True)
class Ending:
    """How a process ended: what its work returned, or the kind and text of its error, or the signal that killed it."""

    value: Any = None
    error: str = ""
    text: str = ""
    signal: int = 0

    @property
    def fine(self) -> bool:
        return not self.error and not self.signal

    def __str__(self) -> str:
        if self.signal:
            return signal.Signals(self.signal).name
        return f"{self.error}: {self.text}" if self.error else "done"


class Child:
    """A forked process with a session of its own that runs `work` and reports what it returned, as JSON."""

    def __init__(self, work: Callable[[], Any]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.before = alive(os.getpid())
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _work(work, write)
        os.close(write)

    def kill(self) -> None:
        """SIGKILL, to this one process."""
        os.kill(self.pid, signal.SIGKILL)

    def ended(self) -> bool:
        """Whether it has ended."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self) -> Ending:
        """Its ending, once it has come."""
        with open(self._read, "rb") as stream:
            said = stream.read()
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            return Ending(signal=os.WTERMSIG(status))
        if not said:
            return Ending(error="exit", text=f"without a word, status {os.waitstatus_to_exitcode(status)}")
        return Ending(**json.loads(said))


def _work(work: Callable[[], Any], write: int) -> None:
    """The life of a forked child; never returns. What ends it is reported, not printed: it may be what is wanted."""
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        try:
            said = {"value": work()}
        except BaseException as error:
            said = {"error": type(error).__name__, "text": str(error)}
        with open(write, "wb") as stream:
            stream.write(json.dumps(said).encode())
    finally:
        os._exit(0)


def descendants(of: int) -> dict[int, str]:
    """Every process below a process, with its state."""
    below: dict[int, list[int]] = {}
    states = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        states[int(path.parent.name)] = fields[0]
        below.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found: dict[int, str] = {}
    waiting = [of]
    while waiting:
        for process in below.get(waiting.pop(), ()):
            found[process] = states[process]
            waiting.append(process)
    return found


def alive(of: int) -> frozenset[int]:
    """Processes below a process that have not ended."""
    return frozenset(process for process, state in descendants(of).items() if state not in "ZX")


def adopt_orphans() -> None:
    """What a killed child leaves behind becomes a child of this process, and can be found."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def survivors(before: Container[int], seconds: float = SURVIVORS_SECONDS) -> list[int]:
    """Processes below this one that were not there `before` and are still alive after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        found = {process: state for process, state in descendants(os.getpid()).items() if process not in before}
        for process in [process for process, state in found.items() if state in "ZX"]:
            with contextlib.suppress(ChildProcessError):  # a grandchild: its parent sees to it
                os.waitpid(process, os.WNOHANG)
            del found[process]
        if not found or time.monotonic() > end:
            return sorted(found)
        time.sleep(0.02)


def tree_memory(process: int) -> float:
    """MiB of a process and all below it that are in memory; shared pages count in each."""
    total = 0
    for member in (process, *descendants(process)):
        try:
            status = Path(f"/proc/{member}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    return total / 1024
