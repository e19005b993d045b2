"""Counting rows for the progress callback."""

from __future__ import annotations

import time
from collections.abc import Callable

from fastxai.types import Progress

OnProgress = Callable[[Progress], None]


class Tally:
    """Where scoring stands. All images are in work from the first measure to the last, so they count as rows pass."""

    def __init__(self, images: int, rows: int, callback: OnProgress | None) -> None:
        """rows: expected in all."""
        self.images, self.total, self.rows = images, rows, 0
        self.callback, self.began = callback, time.perf_counter()

    def rows_done(self, what: str, rows: int) -> None:
        """A chunk of rows is done, for a measure or a method that explains again."""
        self.rows += rows
        # The last image is done when everything is, and adaptive methods may need more rows than expected.
        images = min(self.images * self.rows // max(self.total, 1), self.images - 1)
        self._tell(images, what, max(self.total, self.rows))

    def ends(self) -> None:
        """All is done."""
        self._tell(self.images, "", self.rows)

    def _tell(self, images: int, what: str, total: int) -> None:
        if self.callback is not None:
            seconds = time.perf_counter() - self.began
            self.callback(Progress(images, self.images, 0, what, self.rows, total, seconds))
