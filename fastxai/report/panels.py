"""One panel a picture: what the model saw and said, what each method shows, and how far two of them agree."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from fastxai.config import check_choice, check_int
from fastxai.errors import ArgumentError
from fastxai.report.canvas import DPI
from fastxai.report.cells import View
from fastxai.report.comparison import Comparison
from fastxai.report.drawn import check_image, draw
from fastxai.report.names import file_stem
from fastxai.results import Found
from fastxai.types import Status

FORMATS = ("png", "pdf")


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
    formats: Sequence[str] = ("png",),
    dpi: int = DPI,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write one figure a picture and target into a folder, made with its first file; give the paths written.

    Files are named by the image's number and id (`0003-chelsea.png`; `0003-chelsea-target1.png` where several
    targets are asked for), whatever the id holds. Failed images have none.

    Args:
        source: results in hand, or a run (read one image at a time, so that memory stays flat).
        indices: the images to draw; all by default.
        targets: which of the K explained classes.
        compare: what to compare, as in `panel`.
        formats: of "png" and "pdf"; a file of each. A PDF holds its text as text, in TrueType fonts.
        dpi: pixels an inch of the 12 inches that a panel is wide; papers ask for 300.
        progress: called with images done and images in all.

    Raises:
        ArgumentError: as `panel`, before a file is written.
    """
    for form in formats:
        check_choice("formats", form, FORMATS)
    check_int("dpi", dpi, 20, 2400)
    chosen = list(range(len(source))) if indices is None else [check_int("indices", i, 0) for i in indices]
    if chosen and max(chosen) >= len(source):
        raise ArgumentError(f"indices must be below the number of images {len(source)}, got {max(chosen)}")
    folder = Path(out_dir)
    written = []
    for done, (index, found, place) in enumerate(_one_by_one(source, chosen), start=1):
        for target in targets if int(found.status[place]) == Status.OK else ():
            suffix = f"-target{target}" if len(targets) > 1 else ""
            figure = panel(found, place, target=target, compare=compare)
            for form in formats:
                path = folder / f"{file_stem(index, found.ids[place])}{suffix}.{form}"
                _save(figure, path, dpi)
                written.append(path)
        if progress is not None:
            progress(done, len(chosen))
    return written


def _one_by_one(source: Found | Readable, indices: Sequence[int]) -> Iterator[tuple[int, Found, int]]:
    """(index in the source, results that hold it, place in these results)."""
    for index in indices:
        if isinstance(source, Found):
            yield index, source, index
        else:
            yield index, source.read(index, index + 1), 0


def _save(figure: Figure, path: Path, dpi: int) -> None:
    """Write beside and rename, so that no half picture is ever seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    if path.suffix == ".pdf":
        with rc_context({"pdf.fonttype": 42}):  # TrueType: publishers refuse the default, and text can be searched
            figure.savefig(part, format="pdf", dpi=dpi, metadata={"CreationDate": None})
    else:
        _save_png(figure, part, dpi)
    os.replace(part, path)


def _save_png(figure: Figure, path: Path, dpi: int) -> None:
    """Opaque, and no time spent on the last bytes."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="png", dpi=(dpi, dpi), compress_level=3)
