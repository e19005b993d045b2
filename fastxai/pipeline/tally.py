"""Counting images and rows for the progress callback."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from fastxai.types import ImageBatch, Progress, Status

OnProgress = Callable[[Progress], None]


class Tally:
    """Where a stream of images stands; told from worker threads too."""

    def __init__(self, images: int, rows: int, seconds: float, callback: OnProgress | None) -> None:
        """rows and seconds are those of one image; seconds is NaN where calibration did not measure them."""
        self.callback, self.per_image, self.seconds_per_image = callback, rows, seconds
        self.began, self.lock = time.perf_counter(), threading.Lock()
        self.total, self.images, self.failed, self.rows = images, 0, 0, 0

    def starts(self) -> None:
        """Tell how much there is."""
        self._tell("")

    def skipped(self) -> None:
        """One image less to do."""
        with self.lock:
            self.total -= 1

    def rows_done(self, method: str, rows: int) -> None:
        """A chunk of a method's rows is done."""
        self.rows += rows
        self._tell(method)

    def images_done(self, batch: ImageBatch) -> None:
        """A batch is done, with all methods."""
        self.images += len(batch)
        self.failed += sum(status is not Status.OK for status in batch.status)
        # Failed images ask for fewer rows; adaptive methods for other numbers of them.
        self.rows = self.images * self.per_image
        self._tell("")

    def _tell(self, method: str) -> None:
        if self.callback is not None:
            total = max(self.total * self.per_image, self.rows)
            seconds = time.perf_counter() - self.began
            expected = self.total * self.seconds_per_image
            expected = expected if expected == expected else float("inf")
            self.callback(Progress(self.images, self.total, self.failed, method, self.rows, total, seconds, expected))
