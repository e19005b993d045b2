"""What an uninterrupted run says, how long it takes, and by which operations it reaches the disk."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from _torture import subject
from _torture.faults import Watched
from _torture.ledger import Contents, Ledger, read_contents
from _torture.processes import Child, Ending
from fastxai.store import files


@dataclass(frozen=True)
class Reference:
    """One uninterrupted run over `images`; `options` are those of `fastxai.run` beside the subject's."""

    images: Path
    options: Mapping[str, Any]
    contents: Contents
    seconds: float  # from fork to exit
    operations: Mapping[str, int]

    def ledger(self) -> Ledger:
        """A ledger for another run over the same images."""
        return Ledger(self.contents)

    def child(self, out: Path, disk: files.Disk | None = None, **options: Any) -> Child:
        """A process that begins the run `out` or goes on with it, on `disk`; it returns what the disk counted."""
        return Child(lambda: _explain(out, self.images, disk, {**self.options, **options}))

    def explain(self, out: Path, disk: files.Disk | None = None, **options: Any) -> Ending:
        """The same, waited for."""
        return self.child(out, disk, **options).wait()


def _explain(out: Path, images: Path, disk: files.Disk | None, options: Mapping[str, Any]) -> dict[str, Any]:
    files.disk = disk = disk or Watched()
    subject.explain(out, images, **options)
    return dict(disk.counts) if isinstance(disk, Watched) else {}


def make_reference(folder: Path, count: int, **options: Any) -> Reference:
    """Explain `count` new pictures in `folder` without any trouble."""
    plain = Reference(subject.pictures(folder / "images", count), options, {}, 0, {})
    began = time.monotonic()
    ending = plain.explain(folder / "reference")
    seconds = time.monotonic() - began
    if not ending.fine:
        raise RuntimeError(f"a run without any trouble ended with {ending}")
    return replace(plain, contents=read_contents(folder / "reference"), seconds=seconds, operations=ending.value)


def warm_up(folder: Path) -> None:
    """Load and compile everything that a run needs in this process, which children are forked from."""
    subject.explain(folder / "warm", subject.pictures(folder / "warm-images", 3))
