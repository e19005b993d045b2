"""One panel a picture: what the model saw and said, what each method shows, and how far two of them agree."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from fastxai.config import check_int
from fastxai.errors import ArgumentError
from fastxai.report.canvas import DPI
from fastxai.report.cells import View
from fastxai.report.comparison import Comparison
from fastxai.report.drawn import check_image, draw
from fastxai.report.names import file_stem
from fastxai.results import Found
from fastxai.types import Status


class Readable(Protocol):
    """A run: any slice of it can be read."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> Found: ...


def panel(found: Found, index: int, *, target: int = 0, compare: Comparison | None = None) -> Figure:
    """One picture's panel, 1800 pixels wide at the figure's own resolution.

    Cells, as far as the results hold them: the picture, its five predictions, superpixels, perturbed copies, each
    method's map for one target, and the masks of two methods with their intersection.

    Args:
        found: results with pixels.
        index: the image's place in `found`.
        target: which of the K explained classes.
        compare: what to compare; by default LIME's top 10 segments with Grad-CAM's top fifth.

    Raises:
        ArgumentError: for a wrong index, target or method, a failed image, or results without pixels.
    """
    check_image(found, index, target)
    return draw(View(found, index, target, compare or Comparison()))


def write_panels(
    source: Found | Readable,
    out_dir: str | os.PathLike[str],
    *,
    indices: Iterable[int] | None = None,
    targets: Sequence[int] = (0,),
    compare: Comparison | None = None,
) -> list[Path]:
    """Write one PNG a picture and target into a folder, made with its first file; give the paths written.

    Files are named by the image's number and id (`0003-chelsea.png`; `0003-chelsea-target1.png` where several
    targets are asked for), whatever the id holds. Failed images have none.

    Args:
        source: results in hand, or a run (read one image at a time, so that memory stays flat).
        indices: the images to draw; all by default.
        targets: which of the K explained classes.
        compare: what to compare, as in `panel`.

    Raises:
        ArgumentError: as `panel`, before a file is written.
    """
    chosen = list(range(len(source))) if indices is None else [check_int("indices", i, 0) for i in indices]
    if chosen and max(chosen) >= len(source):
        raise ArgumentError(f"indices must be below the number of images {len(source)}, got {max(chosen)}")
    folder = Path(out_dir)
    written = []
    for index, found, place in _one_by_one(source, chosen):
        if int(found.status[place]) != Status.OK:
            continue
        for target in targets:
            suffix = f"-target{target}" if len(targets) > 1 else ""
            path = folder / f"{file_stem(index, found.ids[place])}{suffix}.png"
            _save(panel(found, place, target=target, compare=compare), path)
            written.append(path)
    return written


def _one_by_one(source: Found | Readable, indices: Sequence[int]) -> Iterator[tuple[int, Found, int]]:
    """(index in the source, results that hold it, place in these results)."""
    for index in indices:
        if isinstance(source, Found):
            yield index, source, index
        else:
            yield index, source.read(index, index + 1), 0


def _save(figure: Figure, path: Path) -> None:
    """Write beside and rename, so that no half picture is ever seen. Opaque, and no time spent on the last bytes."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    Image.fromarray(np.ascontiguousarray(pixels)).save(part, format="png", dpi=(DPI, DPI), compress_level=3)
    os.replace(part, path)
