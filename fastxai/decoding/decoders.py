"""Decoder processes from the side of the run: started when needed, shared by all loads, replaced when they die.

They are plain child programs, not `multiprocessing`, which would import the caller's script again in each of them.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from fastxai.decoding.limits import LIMITS, DecodeLimits
from fastxai.decoding.messages import READY, Decoded, read_reply, receive, request, send
from fastxai.errors import CannotRun, ImageError
from fastxai.types import Preprocess

# The alarm ends a start that hangs. Modules come from where this program finds them, whatever folder it runs in.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGALRM, signal.SIG_DFL)
signal.alarm(120)
sys.path[:] = sys.argv[1:]
from fastxai.decoding.child import main
main()
"""
KEPT = max(2, os.cpu_count() or 1)  # idle decoders that stay when a load ends, 45 MB each
_BROKEN_OFF = "decoding was broken off"


class Load:
    """The decoding of one load, from any number of threads; what is under way can be broken off."""

    def __init__(self, limits: DecodeLimits = LIMITS, decoders: Decoders | None = None) -> None:
        self.limits = limits
        self._decoders = SHARED if decoders is None else decoders
        self._lock = threading.Lock()
        self._under_way: set[Decoder] = set()
        self._over = False

    def decode(self, data: bytes, preprocess: Preprocess) -> Decoded:
        """The picture in `data`, upright, in the model's geometry; `ImageError` says why there is none.

        Raises `CannotRun` where no decoder process can be started.
        """
        if self._over:
            raise ImageError(_BROKEN_OFF)
        with self._decoders.one() as decoder:
            with self._lock:
                if self._over:
                    raise ImageError(_BROKEN_OFF)
                self._under_way.add(decoder)
            try:
                return decoder.decode(data, preprocess, self.limits)
            finally:
                with self._lock:
                    self._under_way.discard(decoder)

    def close(self) -> None:
        """Break off what is under way, however long it would take, and start nothing more."""
        with self._lock:
            self._over = True
            for decoder in self._under_way:
                decoder.kill()
        self._decoders.trim()


class Decoders:
    """A pool that grows with the threads that use it, and keeps its processes for later."""

    def __init__(self) -> None:
        self._start_over()

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Decoder] = []
        self._all: set[Decoder] = set()

    @contextlib.contextmanager
    def one(self) -> Iterator[Decoder]:
        """A decoder for the calling thread alone."""
        decoder = self._take()
        try:
            yield decoder
        finally:
            self._give_back(decoder)

    def _take(self) -> Decoder:
        while True:
            with self._lock:
                found = self._idle.pop() if self._idle else None
            if found is None:
                break
            if found.usable:
                return found
            self._drop(found)
        decoder = Decoder()
        with self._lock:
            self._all.add(decoder)
        return decoder

    def _give_back(self, decoder: Decoder) -> None:
        if not decoder.usable:
            self._drop(decoder)
            return
        with self._lock:
            self._idle.append(decoder)

    def _drop(self, decoder: Decoder) -> None:
        decoder.end()
        with self._lock:
            self._all.discard(decoder)

    def trim(self) -> None:
        """End idle processes but for `KEPT` of them."""
        with self._lock:
            surplus, self._idle = self._idle[KEPT:], self._idle[:KEPT]
        for decoder in surplus:
            self._drop(decoder)

    def end(self) -> None:
        """End all processes and wait for them; the next picture starts new ones."""
        with self._lock:
            decoders, self._idle, self._all = self._all, [], set()
        for decoder in decoders:
            decoder.end()

    def forget(self) -> None:
        """For a copy of this program that `os.fork` made: the processes and pipes are its parent's."""
        decoders = self._all
        self._start_over()  # the lock too: another thread may have held it
        for decoder in decoders:
            decoder.forget()


class Decoder:
    """One process, for one thread at a time."""

    def __init__(self) -> None:
        """Start it and wait until it is ready, 0.3 s. Raises `CannotRun` where it does not start."""
        self._spoiled = False
        if not sys.executable:
            raise CannotRun("sys.executable must name a Python interpreter, which decodes the pictures")
        try:
            with tempfile.TemporaryFile() as errors:
                self._process = _start(errors)
                assert self._process.stdin is not None and self._process.stdout is not None
                self._requests, self._replies = self._process.stdin, self._process.stdout
                try:
                    self._wait_until_ready(errors)
                except BaseException:  # Ctrl-C too
                    self.end()
                    raise
        except OSError as error:
            raise CannotRun(f"{sys.executable!r} cannot be started to decode pictures: {error}") from error

    def _wait_until_ready(self, errors: IO[bytes]) -> None:
        try:
            if receive(self._replies) == (READY, b""):
                return
        except (EOFError, ValueError):
            pass  # it has said why
        self.end()
        errors.seek(0)
        said = [line.strip() for line in errors.read().decode("utf-8", "replace").splitlines()]
        reason = next(filter(None, reversed(said)), _ending(self._process))
        raise CannotRun(f"{sys.executable!r} does not start to decode pictures: {reason}")

    @property
    def usable(self) -> bool:
        """Whether it can be given another picture."""
        return not self._spoiled and self._process.poll() is None

    def decode(self, data: bytes, preprocess: Preprocess, limits: DecodeLimits) -> Decoded:
        """The picture in `data`, or `ImageError`; a process that died over it is not `usable` again."""
        most = preprocess.channels * preprocess.size[0] * preprocess.size[1]
        try:
            send(self._requests, request(preprocess, limits), data)
            fields, pixels = receive(self._replies, most)
            return read_reply(fields, pixels, preprocess)
        except ImageError:
            raise
        except (EOFError, OSError) as error:
            self.end()
            raise ImageError(self._cause_of_death(limits)) from error
        except (ValueError, RecursionError) as error:
            self.end()
            raise ImageError(f"decoder gave an answer that makes no sense: {error}") from error
        except BaseException:  # half a message may be left in the pipes
            self.kill()
            raise

    def _cause_of_death(self, limits: DecodeLimits) -> str:
        number = -self._process.returncode
        if number == signal.SIGPROF:
            return f"decoder took longer than {limits.seconds:g} s"
        if number == signal.SIGALRM:
            return f"decoder hung for {limits.clock:g} s"
        if number == signal.SIGKILL:
            return "decoder was killed (SIGKILL), as it happens where memory runs out"
        return f"decoder {_ending(self._process)}"

    def kill(self) -> None:
        """End it from another thread than the one that uses it, which then gets an `ImageError`."""
        self._spoiled = True
        self._process.kill()

    def end(self) -> None:
        """End it and give its pipes back."""
        self.kill()
        self._process.wait()
        self._requests.close()
        self._replies.close()

    def forget(self) -> None:
        """Close this copy of its pipes: it would not see the end of its input, or two would write to it."""
        self._spoiled = True
        self._process.returncode = 0  # not our child: nobody waits for it here
        self._requests.close()
        self._replies.close()


def _start(errors: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        here = os.getcwd()
    except OSError:  # a folder that was removed
        here = "/"
    paths = [os.path.join(here, path) for path in sys.path if isinstance(path, str)]
    paths.append(str(Path(__file__).resolve().parents[2]))  # last: where this was found before the folder was changed
    return subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM, *paths],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        bufsize=0,
        cwd="/",  # holds no folder that somebody wants to unmount
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},  # threads that would never work
    )


def _ending(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"crashed ({signal.Signals(-code).name})"
    except ValueError:
        return f"crashed (signal {-code})"


SHARED = Decoders()
atexit.register(SHARED.end)
os.register_at_fork(after_in_child=SHARED.forget)
