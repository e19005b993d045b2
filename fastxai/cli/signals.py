"""SIGINT and SIGTERM while images are explained: the first asks for an orderly end, a second one ends at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fastxai.overlap import Stop

SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = 130


class Interrupted(KeyboardInterrupt):
    """A signal before there was anything to finish.

    Not `KeyboardInterrupt` itself: Python 3.11 remembers one that passed through `exec`, as dataclasses use it while
    modules load, and ends a `python -m` by SIGINT for it, whatever exit status was returned.
    """


_ONE = 0.3  # seconds within which two signals are one: what ends a process and its group sends both


@contextmanager
def stoppable() -> Iterator[Stop]:
    """A `Stop` that the first signal sets, for `fastxai.run(stop=...)`; handlers are put back afterwards.

    Before anybody looks at it (while modules and models load, while calibrating) there is nothing to finish: the first
    signal is an `Interrupted` then. In a thread that cannot handle signals, nothing sets it.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        if not stop.watched:
            raise Interrupted

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = {number: signal.signal(number, ask) for number in SIGNALS}
    woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=(reading,), name="fastxai-signals", daemon=True)
    watch.start()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)
        watch.join()
        os.close(reading)


def _watch(reading: int) -> None:
    """End the process at the second signal. In a thread: handlers wait until the main thread is back from C code."""
    first: float | None = None
    while arrived := os.read(reading, 1):
        if arrived[0] not in SIGNALS:
            continue
        now = time.monotonic()
        if first is None:
            first = now
        elif now - first > _ONE:
            os._exit(INTERRUPTED)
