"""Bounded helpers that let stages run side by side: items made ahead of their use or given out late, work left to a
thread, and the way to ask all of them to stop."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

from fastxai.errors import ArgumentTypeError

T = TypeVar("T")
Asked = Callable[[], bool]  # whether the work is asked to stop

_WAIT = 0.1  # seconds between looks at a flag


class Stopped(Exception):
    """Work ended early because it was asked to. What was finished before is kept."""


class Stop:
    """A flag that asks work to end soon: set from anywhere, looked at by calling it.

    `watched`: whether anybody has looked yet. Until then nothing will end by it.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self.watched = False

    def __call__(self) -> bool:
        self.watched = True
        return self._event.is_set()

    def set(self) -> None:
        """Ask for the end; asking twice is fine."""
        self._event.set()


def as_asked(stop: Any) -> Asked:
    """What a caller gave as `stop` (None, something to call, or something with `is_set` such as an Event)."""
    if stop is None:
        return lambda: False
    if callable(stop):
        return lambda: bool(stop())
    if callable(getattr(stop, "is_set", None)):
        return lambda: bool(stop.is_set())
    raise ArgumentTypeError(f"stop must be None, a function or an Event, got {type(stop).__name__}")


def check(asked: Asked) -> None:
    """Raise `Stopped` where the end was asked for."""
    if asked():
        raise Stopped("stopped as asked")


def ahead(
    items: Iterator[T], depth: int, asked: Asked | None = None, begin: Callable[[], None] = lambda: None
) -> Generator[T]:
    """The same items, made in a thread up to `depth` ahead of their use; the thread calls `begin` first.

    An exception in `items` comes out here. Closing the iterator stops the thread and closes `items`. asked: looked at
    before every item and while there is none; `Stopped` comes out then, whatever is ready.
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
            begin()
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
            more, item = ready.get() if asked is None else _get(ready, asked)
            if more:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        stop.set()
        thread.join()


def _get(ready: queue.Queue[tuple[bool, Any]], asked: Asked) -> tuple[bool, Any]:
    while True:
        check(asked)
        try:
            return ready.get(timeout=_WAIT)
        except queue.Empty:
            continue


def late(items: Iterator[T], behind: int) -> Iterator[T]:
    """The same items, each given out when `behind` more were made."""
    made: deque[T] = deque()
    for item in items:
        made.append(item)
        if len(made) > behind:
            yield made.popleft()
    yield from made


class Background(Generic[T]):
    """Calls `work` on items in a thread of its own, in order, with at most `depth` items waiting; `begin` comes first.

    An exception in `work` comes out of the next call or of the end of the `with` block; later items are dropped.
    Leaving the block waits for what was handed over, also after an exception in the block.
    """

    def __init__(self, work: Callable[[T], None], depth: int = 2, begin: Callable[[], None] = lambda: None) -> None:
        self._begin, self._work, self._items = begin, work, queue.Queue[Any](maxsize=depth)
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
        self._begin()
        while (entry := self._items.get()) is not None:
            if self._error is None:
                try:
                    self._work(entry[0])
                except BaseException as error:  # whatever it is, it belongs to the caller
                    self._error = error
