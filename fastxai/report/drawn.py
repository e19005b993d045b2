"""From the cells of a view to a figure, and from a figure to a file."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib.figure import Figure

from fastxai.config import check_int
from fastxai.errors import ArgumentError
from fastxai.report.canvas import DPI, Page
from fastxai.report.cells import View
from fastxai.results import Found
from fastxai.types import Status


def check_image(found: Found, index: int, target: int) -> None:
    """Raise `ArgumentError` where that image of the results cannot be drawn."""
    check_int("index", index, 0, len(found) - 1)
    check_int("target", target, 0, found.targets.shape[1] - 1)
    if found.images is None:
        raise ArgumentError("results must hold pixels to be drawn, got a run made without them")
    if int(found.status[index]) != Status.OK:
        raise ArgumentError(f"index must be that of an explained image, got {index}: {found.errors[index]}")


def draw(view: View) -> Figure:
    """The view's cells under its header."""
    cells = list(view.cells())
    page = Page([footer for _, footer in cells], (view.pixels.shape[-2], view.pixels.shape[-1]))
    view.header(page)
    for number, (paint, _) in enumerate(cells):
        paint(page, number)
    return page.figure


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG, into a folder that is made; beside its place first, so that no half picture is seen."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    figure.savefig(part, format="png", dpi=DPI, facecolor="white")
    os.replace(part, path)
    return path
