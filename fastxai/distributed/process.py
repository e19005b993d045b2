"""A worker that is a process of its own on this machine, and what happens inside of it.

The parent writes the task as one line of JSON to the worker's stdin and leaves it open; a second line asks it to stop,
and so does its end, which comes too when the parent is killed. The worker answers on stdout, a line of JSON for its
progress now and then and one for its end. Its own prints go to stderr.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import IO, Any

from fastxai.distributed.job import Job
from fastxai.distributed.sharding import Share
from fastxai.distributed.work import End, work
from fastxai.overlap import Stop
from fastxai.types import Progress

AGAIN, STOPPED, FAILED = 75, 130, 1  # exit statuses: "start me again", as asked, as the last line says
GRACE = 10.0  # seconds that a worker without a parent may take to commit what it has
_PACE = 0.2  # seconds between lines of progress


class Process:
    """The parent's side: start a worker, look how it goes, ask it to stop."""

    def __init__(self, job: Job, share: Share, environment: Mapping[str, str] | None = None) -> None:
        """environment: variables that only this worker has."""
        # The folder of the caller is searched for modules where it is for the parent, and only there.
        safe = [] if {"", os.getcwd()} & set(sys.path) else ["-P"]
        self._process = subprocess.Popen(
            [sys.executable, *safe, "-m", "fastxai", "worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # a terminal's Ctrl-C goes to the parent, which decides
        )
        self._progress: Progress | None = None
        self._end: End | None = None
        self._reader = threading.Thread(target=self._read, name="fastxai-worker", daemon=True)
        self._reader.start()
        self._say(json.dumps({"job": job.to_json(), "share": str(share)}))

    def look(self) -> tuple[Progress | None, End | None]:
        """The latest progress and how it ended; None before the first, and while it is at work."""
        status = self._process.poll()
        if status is None:
            return self._progress, None
        self._reader.join(1.0)  # children of the worker may hold the pipe for longer
        self._close()
        how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        return self._progress, self._end or End("died", how)

    def stop(self) -> None:
        """Ask it to stop: it finishes the chunk in hand, commits and ends."""
        self._say("stop")

    def kill(self) -> None:
        """End it now, if it has not ended."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _say(self, line: str) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(line.encode() + b"\n")
            stdin.flush()
        except (BrokenPipeError, ValueError):
            return  # it has ended, which `look` tells

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        for line in stdout:
            try:
                message = json.loads(line)
            except ValueError:
                continue  # the last line of a worker that was killed
            if "progress" in message:
                self._progress = Progress(**message["progress"])
            else:
                self._end = End.from_dict(message["end"])

    def _close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            if stream is self._process.stdout and self._reader.is_alive():
                continue
            try:
                stream.close()
            except BrokenPipeError:
                continue


def serve(stop: Stop) -> int:
    """The worker's side: read the task, do it, tell. Returns the exit status. stop: what signals set."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what a model or a library prints must not come between the answers
    tell = _Teller(answers)
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_listen, args=(sys.stdin, stop), name="fastxai-parent", daemon=True).start()
    end = work(Job.from_json(task["job"]), Share.parse(task["share"]), progress=tell.progress, stop=stop)
    tell.end(end)
    return {"done": 0, "stopped": STOPPED, "lost": AGAIN}.get(end.kind, FAILED)


def _listen(stdin: IO[str], stop: Stop) -> None:
    """Stop when the parent says so or is gone; in the latter case without a doubt."""
    asked = stdin.readline()
    if not stop.watched:
        os._exit(STOPPED)  # nothing is explained yet, and loading may take long
    stop.set()
    if asked:
        stdin.readline()  # its end
    time.sleep(GRACE)
    os._exit(STOPPED)


class _Teller:
    """Writes the worker's answers; a parent that is gone is noticed elsewhere."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._due = stream, 0.0
        self._last: Progress | None = None

    def progress(self, progress: Progress) -> None:
        self._last = progress
        now = time.monotonic()
        if now >= self._due or progress.images >= progress.images_total:
            self._due = now + _PACE
            self._tell({"progress": dataclasses.asdict(progress)})

    def end(self, end: End) -> None:
        if self._last is not None:
            self._tell({"progress": dataclasses.asdict(self._last)})
        self._tell({"end": end.to_dict()})

    def _tell(self, message: dict[str, Any]) -> None:
        try:
            print(json.dumps(message), file=self._stream, flush=True)
        except BrokenPipeError:
            return
