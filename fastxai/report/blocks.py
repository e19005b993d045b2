"""Pieces of a page kept on disk until it is known how many of them fit."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

_AROUND = len('<script type="application/json" id=""></script>\n')  # bytes of markup about a piece, without its name


class Blocks:
    """JSON data blocks in order, in a nameless file; memory stays flat however many there are.

    limit: bytes after which nothing more is taken in, because it could not fit into the page.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by __exit__
        self._names: list[str] = []
        self._starts = [0]
        self._markup = [0]
        self.limit = limit

    def __enter__(self) -> Blocks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._names)

    @property
    def full(self) -> bool:
        return self.size(len(self)) > self.limit

    def add(self, name: str, data: Any) -> None:
        """Take in one piece of plain JSON data; nothing where the limit is passed."""
        if self.full:
            return
        written = json_text(data).encode("ascii")
        self._file.write(written)
        self._names.append(name)
        self._starts.append(self._starts[-1] + len(written))
        self._markup.append(self._markup[-1] + _AROUND + len(name))

    def size(self, count: int) -> int:
        """Bytes of a page that the first `count` pieces take."""
        return self._starts[count] + self._markup[count]

    def fitting(self, room: int) -> int:
        """How many of the first pieces fit into `room` bytes."""
        return max((count for count in range(len(self) + 1) if self.size(count) <= room), default=0)

    def read(self, count: int) -> Iterator[tuple[str, Markup]]:
        """The first `count` pieces: name, and text that may stand in a page as it is."""
        self._file.seek(0)
        for name, start, stop in zip(self._names[:count], self._starts, self._starts[1:], strict=False):
            yield name, Markup(self._file.read(stop - start).decode("ascii"))  # escaped by json_text


def json_text(data: Any) -> Markup:
    """JSON that no browser reads as markup, whatever strings it holds: <, >, & and ' are escaped; ASCII only."""
    return htmlsafe_json_dumps(data, separators=(",", ":"), allow_nan=False)
