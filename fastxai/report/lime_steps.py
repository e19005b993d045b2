"""LIME step by step: from the picture over its superpixels and perturbed copies to the superpixels that matter most."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor

from fastxai.errors import ArgumentError
from fastxai.report import pictures
from fastxai.report.canvas import INK, RULE, Page
from fastxai.report.cells import Draw, View
from fastxai.report.comparison import Comparison
from fastxai.report.drawn import check_image, draw
from fastxai.results import Found

MOST = 10  # superpixels that are called the most influential


def lime_steps(found: Found, index: int, *, target: int = 0, name: str = "lime") -> Figure:
    """Eight cells: the picture, its five predictions, superpixels, perturbed copies, the ten superpixels with the
    largest weights by size, these weights, the ten most positive superpixels alone, and the weights of all.

    Args:
        found: results with pixels.
        index: the image's place in `found`.
        target: which of the K explained classes.
        name: the method, one that gives weights to superpixels.

    Raises:
        ArgumentError: as `panel`, and for a method without superpixels.
    """
    check_image(found, index, target)
    if not found[name].on_segments:
        raise ArgumentError(f"name must be that of a method on superpixels, got {name!r}")
    return draw(_LimeSteps(found, index, target, name))


def most_influential(weights: Tensor, count: int = MOST) -> list[tuple[int, float]]:
    """Superpixel and weight of the `count` largest weights by size, largest first; weights float [S], NaN beyond the
    image's own. Of equal sizes the lower number comes first."""
    known = int(weights.isfinite().sum())
    order = weights[:known].abs().sort(descending=True, stable=True).indices[:count]
    return [(place, float(weights[place])) for place in order.tolist()]


class _LimeSteps(View):
    """Cells in the order of the method."""

    def __init__(self, found: Found, index: int, target: int, name: str) -> None:
        super().__init__(found, index, target, Comparison(top_segments=MOST))
        self.name = name
        self.result = self.results[name]
        self.weights = self.result.weights[target]
        self.most = most_influential(self.weights)
        self.limit = max((abs(weight) for _, weight in self.most), default=0.0)

    def cells(self) -> Iterator[tuple[Draw, bool]]:
        yield self._draw_picture, False
        yield self._draw_predictions, False
        yield self._bind(self._draw_segments, self.name), False
        yield self._bind(self._draw_copies, self.name), False
        yield self._draw_most, True
        yield self._draw_weights, False
        yield self._bind(self._draw_top_segments, self.name), True
        yield self._draw_all, True

    def _draw_most(self, page: Page, cell: int) -> None:
        """The most influential superpixels in the colour of their weight, numbered by rank."""
        kept = torch.zeros_like(self.weights)
        for place, weight in self.most:
            kept[place] = weight
        page.titles(cell, f"The {len(self.most)} most influential", "by size of weight, numbered by rank")
        page.picture(cell, self._colored(kept))
        left, top = page.corner(cell)
        height, width = self.labels.shape
        for rank, (place, _) in enumerate(self.most, start=1):
            row, column = _heart(self.labels == place)
            text = page.text(
                left + page.shown[0] * (column + 0.5) / width,
                top - page.shown[1] * (row + 0.5) / height,
                str(rank),
                size=9,
                color="white",
                weight="bold",
                ha="center",
                va="center",
            )
            text.set_path_effects([withStroke(linewidth=2, foreground=INK)])
        self._scale(page, cell)

    def _draw_weights(self, page: Page, cell: int) -> None:
        """Their weights as bars around zero."""
        known = "intercept" in self.result.data
        intercept = f"; intercept {float(self.result.intercept[self.target]):.4f}" if known else ""
        page.titles(cell, "Their weights", f"in the surrogate model{intercept}".replace("-", "−"))
        left, top = page.corner(cell)
        step = page.tall / MOST
        middle, room = left + 0.62 * page.cell, 0.33 * page.cell
        page.block(middle - 0.005, top - len(self.most) * step, 0.01, len(self.most) * step, RULE)
        for rank, (_, weight) in enumerate(self.most, start=1):
            line = top - (rank - 0.5) * step
            page.text(left, line, f"{rank}", size=9, weight="bold", va="center")
            page.text(left + 0.28, line, f"{weight:+.4f}".replace("-", "−"), size=9, va="center")
            length = room * abs(weight) / self.limit if self.limit > 0 else 0.0
            color = pictures.SIGNED(0.92 if weight > 0 else 0.08)
            start = middle if weight > 0 else middle - length
            page.block(start, line - 0.32 * step, length, 0.64 * step, _hex(color))

    def _draw_all(self, page: Page, cell: int) -> None:
        """Every superpixel in the colour of its weight."""
        page.titles(cell, "All weights", f"{int(self.weights.isfinite().sum())} superpixels")
        page.picture(cell, self._colored(self.weights.nan_to_num(0.0)))
        self._scale(page, cell)

    @property
    def labels(self) -> Tensor:
        assert self.result.segments is not None
        return self.result.segments

    def _colored(self, weights: Tensor) -> np.ndarray:
        """The picture with every superpixel in the colour of its weight, [S]; edges stay where they are."""
        values = weights.float()[self.labels.long()]
        large = values.repeat_interleave(self.scale, 0).repeat_interleave(self.scale, 1)
        return pictures.outlined(
            pictures.signed_overlay(self.picture, large, self.limit), self.labels, width=1, color="#ffffff"
        )

    def _scale(self, page: Page, cell: int) -> None:
        page.color_bar(cell, pictures.SIGNED, [(0, f"−{self.limit:.2g}"), (0.5, "0"), (1, f"+{self.limit:.2g}")])


def _heart(mask: Tensor) -> tuple[int, int]:
    """Row and column of the pixel of a mask, bool [H, W], that is nearest to its centre."""
    places = mask.nonzero().double()
    nearest = (places - places.mean(0)).square().sum(1).argmin()
    row, column = places[nearest].long().tolist()
    return row, column


def _hex(color: tuple[float, ...]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in color[:3])
