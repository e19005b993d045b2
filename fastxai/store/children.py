"""Files checked in processes of their own: one that crashes or hangs HDF5 is reported, and the next one gets a new one.

The parent asks and the child answers in lines of JSON, through pipes; nothing is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastxai.errors import CannotRun
from fastxai.store.check import Checked, Expected, check_index, check_shard
from fastxai.store.dataset import DataSet

# The child imports from where the parent does, whatever folder it is started in.
_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from fastxai.store.children import serve; serve()"
_READY = "ready"
_SLOWEST = 1 << 20  # bytes a second: what a file may take beside the fixed limit


@dataclass(frozen=True)
class Request:
    """One file to check. name: in the run; shards: those of the run of an index, name -> bytes."""

    kind: Literal["shard", "index", "exported"]
    path: Path
    size: int  # bytes
    name: str
    shards: dict[str, int] | None = None


def answer(request: Request, expected: Expected | None) -> Checked:
    """Check a file in this process. expected: of the shards of a run."""
    if request.kind == "exported":
        from fastxai.store.check_exported import check_exported  # loads torch, which shards do not need

        return check_exported(request.path)
    if request.kind == "index":
        assert request.shards is not None
        return check_index(request.path, request.shards)
    assert expected is not None
    return check_shard(request.path, request.path.name, expected)


def answer_apart(
    requests: Sequence[Request], expected: Expected | None, processes: int, seconds: float
) -> Iterator[Checked]:
    """Check files in `processes` other processes, in the order of the requests.

    A file may take `seconds`, and one second more for each MiB. Raises `CannotRun` where a process cannot be started.
    """
    processes = max(1, min(processes, len(requests)))
    with _Children(expected, processes, seconds) as children, ThreadPoolExecutor(processes) as threads:
        try:
            yield from threads.map(children.check, requests)
        finally:
            children.stop()  # before the threads are waited for: what they wait for themselves ends with it
            threads.shutdown(cancel_futures=True)


class _Children:
    """So many processes, started when they are needed."""

    def __init__(self, expected: Expected | None, count: int, seconds: float) -> None:
        self._first = json.dumps(None if expected is None else dataclasses.asdict(expected))
        self._seconds = seconds
        self._free: queue.SimpleQueue[_Child | None] = queue.SimpleQueue()
        self._all: list[_Child] = []
        self._lock, self._stopped = threading.Lock(), False
        for _ in range(count):
            self._free.put(None)

    def __enter__(self) -> _Children:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End all of them."""
        with self._lock:
            self._stopped = True
            for child in self._all:
                child.stop()

    def check(self, request: Request) -> Checked:
        """What a child says of a file, or what became of the child."""
        child = self._free.get()
        try:
            if child is None:
                child = self._start()
            with _limit(child, self._seconds + request.size / _SLOWEST) as ran_out:
                line = child.ask(json.dumps({**dataclasses.asdict(request), "path": str(request.path)}))
            if line:
                return Checked(**json.loads(line))
            ended = child.stop()
            child = None
            if ran_out:
                return Checked([f"cannot be checked: reading it takes longer than {ran_out[0]:.0f} seconds"])
            return Checked([f"cannot be checked: the process that read it {_how(ended)}"])
        finally:
            self._free.put(child)

    def _start(self) -> _Child:
        with self._lock:
            if self._stopped:
                raise CannotRun("the check was stopped")
            child = _Child()
            self._all.append(child)
        # Imports may take long on a machine that is busy.
        with _limit(child, 120 + self._seconds):
            if child.ask(self._first) != _READY + "\n":
                raise CannotRun(f"a process to check files in cannot be started with {sys.executable}")
        return child


class _Child:
    def __init__(self) -> None:
        command = [sys.executable, "-c", _PROGRAM, *sys.path]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                start_new_session=True,  # an interrupt is the parent's to handle
            )
        except OSError as error:
            raise CannotRun(f"a process to check files in cannot be started: {error}") from error

    def ask(self, line: str) -> str:
        """The child's answer, empty where it is gone."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError:
            return ""
        found = self._process.stdout.readline()
        return found if found.endswith("\n") else ""

    def kill(self) -> None:
        self._process.kill()

    def stop(self) -> int:
        """End it; how it ended."""
        self._process.kill()
        status = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:  # what was left to write to it
                continue
        return status


@contextmanager
def _limit(child: _Child, seconds: float) -> Iterator[list[float]]:
    """End the child when the body takes longer; the list then holds the seconds."""
    ran_out: list[float] = []

    def end() -> None:
        ran_out.append(seconds)
        child.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield ran_out
    finally:
        timer.cancel()


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def serve() -> None:
    """The child: read what is expected, then one request a line, until there are no more."""
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    expected = _expected(json.loads(requests.readline()))
    print(_READY, file=answers, flush=True)
    for line in requests:
        data = json.loads(line)
        found = answer(Request(**{**data, "path": Path(data["path"])}), expected)
        print(json.dumps(dataclasses.asdict(found)), file=answers, flush=True)


def _expected(data: dict[str, Any] | None) -> Expected | None:
    if data is None:
        return None
    data_sets = tuple(DataSet(**{**spec, "dims": tuple(spec["dims"])}) for spec in data["data_sets"])
    return Expected(data["digest"], data_sets, data["lengths"], tuple(data["statuses"]))
