"""Progress of a run: a bar on a terminal, a plain line every ten seconds elsewhere. On stderr, always."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

from fastxai.cli import show

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from fastxai.types import Progress

INTERVAL = 10.0  # seconds between plain lines


@contextlib.contextmanager
def show_progress(*, quiet: bool, stream: TextIO | None = None) -> Iterator[Callable[[Progress], None] | None]:
    """A callback for `fastxai.run(progress=...)`; None where nothing is to be shown."""
    stream = sys.stderr if stream is None else stream
    if quiet:
        yield None
    elif stream.isatty():
        with _bar(stream) as bar:
            yield _Terminal(bar)
    else:
        yield _Lines(stream)


class _Lines:
    """A line at the first news, then at most every `INTERVAL` seconds, and one at the end."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.due = 0.0

    def __call__(self, progress: Progress) -> None:
        finished = progress.images >= progress.images_total
        now = time.monotonic()
        if now < self.due and not finished:
            return
        self.due = now + INTERVAL
        print(f"fastxai: {_images(progress)}, {_pace(progress)}", file=self.stream, flush=True)


class _Terminal:
    def __init__(self, bar: Bar) -> None:
        self.bar = bar
        self.task = bar.add_task("explaining", total=None, images="", pace="")

    def __call__(self, progress: Progress) -> None:
        # rows pass evenly; images finish in bunches
        by_rows = progress.rows_total > 0
        self.bar.update(
            self.task,
            description=progress.method or "explaining",
            completed=progress.rows if by_rows else progress.images,
            total=progress.rows_total if by_rows else progress.images_total,
            images=_images(progress),
            pace=_pace(progress),
        )


def _bar(stream: TextIO) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[images]}", markup=False),
        TextColumn("{task.fields[pace]}", markup=False),
    )
    return Bar(*columns, console=Console(file=stream), transient=True)


def _images(progress: Progress) -> str:
    failed = f" ({progress.failed} failed)" if progress.failed else ""
    return f"{progress.images}/{progress.images_total} images{failed}"


def _pace(progress: Progress) -> str:
    if progress.images >= progress.images_total:
        return f"{show.rate(progress.images_per_second)} images/s, {show.duration(progress.seconds)} in all"
    known = progress.seconds_left != float("inf")
    about = "about " if not progress.rows else ""
    left = f"{about}{show.duration(progress.seconds_left)} left" if known else "starting"
    return f"{show.rate(progress.images_per_second)} images/s, {left}" if progress.images else left
