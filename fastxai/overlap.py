"""Bounded helpers that let stages run side by side: items made ahead of their use or given out late, and work left to
a thread."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_WAIT = 0.1  # seconds between looks at the stop flag


def ahead(items: Iterator[T], depth: int) -> Generator[T]:
    """The same items, made in a thread up to `depth` ahead of their use.

    An exception in `items` comes out here. Closing the iterator stops the thread and closes `items`.
    """
    ready: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(entry: tuple[bool, Any]) -> bool:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=_WAIT)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((True, item)):
                    return
            put((False, None))
        except BaseException as error:  # whatever it is, it belongs to the consumer
            put((False, error))
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, name="fastxai-ahead", daemon=True)
    thread.start()
    try:
        while True:
            more, item = ready.get()
            if more:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        stop.set()
        thread.join()


def late(items: Iterator[T], behind: int) -> Iterator[T]:
    """The same items, each given out when `behind` more were made."""
    made: deque[T] = deque()
    for item in items:
        made.append(item)
        if len(made) > behind:
            yield made.popleft()
    yield from made


class Background(Generic[T]):
    """Calls `work` on items in a thread of its own, in order, with at most `depth` items waiting.

    An exception in `work` comes out of the next call or of the end of the `with` block; later items are dropped.
    Leaving the block waits for what was handed over, also after an exception in the block.
    """

    def __init__(self, work: Callable[[T], None], depth: int = 2) -> None:
        self._work, self._items = work, queue.Queue[Any](maxsize=depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fastxai-background", daemon=True)

    def __enter__(self) -> Background[T]:
        self._thread.start()
        return self

    def __call__(self, item: T) -> None:
        if self._error is not None:
            raise self._error
        self._items.put((item,))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._items.put(None)
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        while (entry := self._items.get()) is not None:
            if self._error is None:
                try:
                    self._work(entry[0])
                except BaseException as error:  # whatever it is, it belongs to the caller
                    self._error = error
