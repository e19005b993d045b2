"""Lanes: threads that read one model side by side on a CPU, each with its share of the cores.

A call on all cores waits behind every one of its loops for the core that comes last; calls side by side do not. In two
lanes of one thread each, a compiled EfficientNet-Lite0 read 1.08 to 1.25 times as many rows as in one of two threads.
What a call computes follows from the threads of its lane alone, not from the number of lanes nor from what goes on
beside it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch

from fastxai.heap import make_room
from fastxai.threads import set_threads

T = TypeVar("T")

# Probe kinds read in lanes, as predictions are that record no layers. The others hook into the one module of a session,
# or share torch's level of forward mode.
LANE_KINDS = ("scores", "gradients")


class Work(Protocol):
    """Where calls of the model are done. `window`: how many to hand in before the first result is waited for."""

    window: int

    def submit(self, call: Callable[[], T]) -> Callable[[], T]:
        """Have `call` done; returns what waits for its result, or raises its error."""

    def drop(self) -> None:
        """Forget what was handed in, once nothing of it is running any more."""


class InTurn:
    """In the calling thread, when the result is asked for."""

    window = 1

    def submit(self, call: Callable[[], T]) -> Callable[[], T]:
        return call

    def drop(self) -> None:
        """Nothing is running."""


class Lanes:
    """`count` threads that share `threads` cores; each computes with `each` threads of torch."""

    def __init__(self, count: int, threads: int) -> None:
        self.count, self.each = count, max(1, threads // count)
        self.window = count + 1  # the next call is there when a lane has done one
        self._local = threading.local()
        self._free = list(range(count))
        self._handed_in: list[Future[Any]] = []
        self._pool = ThreadPoolExecutor(count, "fastxai-lane", initializer=self._begin)

    def _begin(self) -> None:
        self._local.number = self._free.pop()  # an atomic operation
        set_threads(self.each)
        make_room()

    @property
    def number(self) -> int | None:
        """Which lane the calling thread is, 0..count-1; None for any other thread."""
        return getattr(self._local, "number", None)

    def submit(self, call: Callable[[], T]) -> Callable[[], T]:
        future = self._pool.submit(call)
        self._handed_in = [other for other in self._handed_in if not other.done()]
        self._handed_in.append(future)
        return future.result

    def on_each(self, call: Callable[[], None]) -> None:
        """Have every lane do `call`, while none of them has work."""
        together = threading.Barrier(self.count)

        def once() -> None:
            together.wait()  # no lane comes for a second one
            call()

        for future in [self._pool.submit(once) for _ in range(self.count)]:
            future.result()

    def drop(self) -> None:
        for future in self._handed_in:
            future.cancel()
        wait(self._handed_in)
        self._handed_in.clear()

    @contextmanager
    def at_work(self) -> Iterator[Lanes]:
        """Meanwhile the calling thread uses one thread of torch, see `beside_model`. No lane is at work at the end."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield self
        finally:
            self.drop()
            torch.set_num_threads(threads)

    def close(self) -> None:
        """End the threads; what is running is waited for."""
        self._pool.shutdown(cancel_futures=True)
