"""A page of equal cells, aligned to the pixel: a matplotlib figure without pyplot and without global state."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox, TransformedBbox

from fastxai.report.names import cut

DPI = 150
WIDTH = 12.0  # inches: 1800 pixels
FONT = "DejaVu Sans"  # ships with matplotlib, so a panel looks the same everywhere
INK, FAINT, RULE = "#1c2330", "#667085", "#d5d9e0"

_MARGIN, _GUTTER = 0.30, 0.24  # inches
_HEADER = 0.66  # of the page
_TITLE, _FOOTER, _NO_FOOTER = 0.50, 0.36, 0.10  # above and below a cell's picture
_FLATTEST, _TALLEST = 0.5, 1.4  # height / width of a cell
_TITLE_LETTERS, _SUBTITLE_LETTERS = 26, 44


class Page:
    """Cells for pictures of one size (height, width in any unit) in rows of `columns`, under a header.

    A cell is a picture with a title above it and a footer below it; a row whose cells have no footer takes no room
    for one. Very flat and very tall pictures do not fill their cell: they stand at its top left. Lengths are inches.
    """

    def __init__(self, footers: Sequence[bool], size: tuple[int, int], *, columns: int = 4) -> None:
        self.columns = columns
        self.cell = (WIDTH - 2 * _MARGIN - (columns - 1) * _GUTTER) / columns
        ratio = size[0] / size[1]
        self.tall = self.cell * min(max(ratio, _FLATTEST), _TALLEST)
        self.shown = min(self.cell, self.tall / ratio), min(self.tall, self.cell * ratio)  # width, height of a picture
        rows = [any(footers[start : start + columns]) for start in range(0, len(footers), columns)]
        below = [_FOOTER if footer else _NO_FOOTER for footer in rows]
        self.height = _MARGIN + _HEADER + len(rows) * (_TITLE + self.tall) + sum(below) + _MARGIN / 2
        self._tops = []
        place = self.height - _MARGIN - _HEADER
        for footer in below:
            place -= _TITLE
            self._tops.append(place)
            place -= self.tall + footer
        self.figure = Figure(figsize=(WIDTH, self.height), dpi=DPI, facecolor="white")
        FigureCanvasAgg(self.figure)

    def header(self, left: str, below: str, right: str, right_below: str) -> None:
        """Two lines at the page's left edge and two at its right one, over a rule."""
        top = self.height - _MARGIN
        self.text(_MARGIN, top, left, size=13, weight="bold", va="top")
        self.text(_MARGIN, top - 0.25, below, size=8.5, color=FAINT, va="top")
        self.text(WIDTH - _MARGIN, top, right, size=13, weight="bold", va="top", ha="right")
        self.text(WIDTH - _MARGIN, top - 0.25, right_below, size=8.5, color=FAINT, va="top", ha="right")
        self.block(_MARGIN, top - 0.52, WIDTH - 2 * _MARGIN, 0.01, RULE)

    def corner(self, cell: int) -> tuple[float, float]:
        """The upper left corner of a cell's picture."""
        row, column = divmod(cell, self.columns)
        return _MARGIN + column * (self.cell + _GUTTER), self._tops[row]

    def titles(self, cell: int, title: str, subtitle: str) -> None:
        """A title and a line below it, cut where they would leave the cell."""
        left, top = self.corner(cell)
        self.text(left, top + 0.25, cut(title, _TITLE_LETTERS), size=10.5, weight="bold")
        self.text(left, top + 0.08, cut(subtitle, _SUBTITLE_LETTERS), size=8, color=FAINT)

    def picture(self, cell: int, image: np.ndarray, part: tuple[float, float, float] = (0, 0, 1)) -> None:
        """Show float RGB [H, W, 3] in a cell, or in a part of it: shares from the left and from the top, and of both
        lengths."""
        left, top = self.corner(cell)
        width, height = (part[2] * length for length in self.shown)
        start = left + part[0] * self.shown[0], top - part[1] * self.shown[1] - height
        self.image((image.clip(0, 1) * 255 + 0.5).astype(np.uint8), *start, width, height)

    def color_bar(self, cell: int, colors: Colormap, ticks: Sequence[tuple[float, str]]) -> None:
        """A thin scale in a cell's footer; ticks are (place in [0, 1], label)."""
        left, bottom = self._under(cell)
        strip = colors(np.linspace(0, 1, 256))[None, :, :3]
        self.image((strip * 255 + 0.5).astype(np.uint8), left, bottom - 0.13, self.shown[0], 0.07)
        for place, label in ticks:
            side = "left" if place == 0 else "right" if place == 1 else "center"
            self.text(left + place * self.shown[0], bottom - 0.17, label, size=7.5, color=FAINT, va="top", ha=side)

    def legend(self, cell: int, entries: Sequence[tuple[str, str]]) -> None:
        """Patches of (colour, label) side by side in a cell's footer, at even steps."""
        left, bottom = self._under(cell)
        step = self.cell / len(entries)
        for number, (color, label) in enumerate(entries):
            start = left + number * step
            self.block(start, bottom - 0.19, 0.11, 0.11, color)
            self.text(start + 0.16, bottom - 0.135, label, size=8, color=INK, va="center")

    def _under(self, cell: int) -> tuple[float, float]:
        """The lower left corner of a cell's picture, where its footer begins."""
        left, top = self.corner(cell)
        return left, top - self.shown[1]

    def image(self, image: np.ndarray, left: float, bottom: float, width: float, height: float) -> None:
        """Show uint8 RGB [H, W, 3] at a place in inches; an artist of the figure, because axes cost 25 ms each."""
        place = Bbox.from_bounds(left / WIDTH, bottom / self.height, width / WIDTH, height / self.height)
        shown = BboxImage(
            TransformedBbox(place, self.figure.transFigure), interpolation="antialiased", origin="upper", resample=True
        )
        shown.set_data(image)
        self.figure.add_artist(shown)

    def block(self, left: float, bottom: float, width: float, height: float, color: str) -> None:
        """A filled rectangle at a place in inches."""
        place, shape = (left / WIDTH, bottom / self.height), (width / WIDTH, height / self.height)
        self.figure.add_artist(Rectangle(place, *shape, color=color, linewidth=0, transform=self.figure.transFigure))

    def note(self, cell: int, text: str) -> None:
        """A faint line in a cell's footer."""
        left, bottom = self._under(cell)
        self.text(left, bottom - 0.07, text, size=8, color=FAINT, va="top")

    def text(
        self,
        left: float,
        bottom: float,
        text: str,
        *,
        size: float,
        color: str = INK,
        weight: str = "normal",
        ha: str = "left",
        va: str = "baseline",
    ) -> Text:
        """Plain text at a place in inches: never math or TeX, whatever it holds."""
        return self.figure.text(
            left / WIDTH,
            bottom / self.height,
            drawable(text),
            fontsize=size,
            color=color,
            fontweight=weight,
            fontfamily=FONT,
            ha=ha,
            va=va,
            parse_math=False,
            usetex=False,
        )


def drawable(text: str) -> str:
    """`text` with what the font has no picture of as a box, instead of a warning."""
    known = _glyphs()
    return "".join(c if ord(c) in known else "□" for c in text)


@cache
def _glyphs() -> frozenset[int]:
    """Characters that both weights of the font can draw."""
    fonts = [
        font_manager.get_font(font_manager.findfont(font_manager.FontProperties(family=FONT, weight=weight)))
        for weight in ("normal", "bold")
    ]
    return frozenset.intersection(*(frozenset(font.get_charmap()) for font in fonts))
