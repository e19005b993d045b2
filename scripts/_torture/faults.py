"""Stand-ins for the store's `Disk`: one counts its operations, one kills the process at one, one fails from one on."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from fastxai.store import files

OPERATIONS = tuple(name for name in vars(files.Disk) if not name.startswith("_"))
MOMENTS = ("before", "half", "after")  # half: only of a write
STEPS = tuple((name, moment) for name in OPERATIONS for moment in MOMENTS if moment != "half" or name == "write")


class Watched(files.Disk):
    """Counts operations by name, in `counts` and `total`; `at` is called around each of them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.total = 0
        self._lock = threading.Lock()

    def at(self, name: str, moment: str, number: int, total: int) -> None:
        """The `number`-th operation `name`, the `total`-th of all, is before, half-way (a write) or after its work."""

    def _do(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        plain = getattr(super(), name)
        with self._lock:
            self.counts[name] += 1
            self.total += 1
            number, total = self.counts[name], self.total
        self.at(name, "before", number, total)
        if name == "write":
            stream, data, offset = arguments
            half = len(data) // 2
            plain(stream, data[:half], offset)
            self.at(name, "half", number, total)
            plain(stream, data[half:], offset + half)
            result = None
        else:
            result = plain(*arguments, **options)
        self.at(name, "after", number, total)
        return result


def _watched(name: str) -> Callable[..., Any]:
    def operation(self: Watched, *arguments: Any, **options: Any) -> Any:
        return self._do(name, arguments, options)

    return operation


for _name in OPERATIONS:
    setattr(Watched, _name, _watched(_name))


class Killing(Watched):
    """Kills this process at the `number`-th operation `name`."""

    def __init__(self, name: str, moment: str, number: int) -> None:
        super().__init__()
        self.goal = (name, moment, number)

    def at(self, name: str, moment: str, number: int, total: int) -> None:
        if (name, moment, number) == self.goal:
            os.kill(os.getpid(), signal.SIGKILL)


class Failing(Watched):
    """The `first`-th operation fails with `code`, and where it lasts every later one that asks the disk for anything.

    A write fails half-way; a file is closed, and says so with an error. `struck` names the operation that failed first.
    """

    def __init__(self, first: int, code: int, lasting: bool) -> None:
        super().__init__()
        self.first, self.code, self.lasting = first, code, lasting
        self.struck = ""

    def at(self, name: str, moment: str, number: int, total: int) -> None:
        when = {"write": "half", "close": "after"}.get(name, "before")
        hit = total == self.first or (self.lasting and total > self.first and name != "close")
        if hit and moment == when:
            self.struck = self.struck or name
            raise OSError(self.code, os.strerror(self.code))
