"""Two methods side by side: the picture, each method's answer, and both masks with their IoU."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure

from fastxai.errors import ArgumentError
from fastxai.report.cells import Draw, View
from fastxai.report.comparison import Comparison
from fastxai.report.drawn import check_image, draw
from fastxai.results import Found


def four_panels(found: Found, index: int, *, target: int = 0, compare: Comparison | None = None) -> Figure:
    """Four cells: the picture, what the first method shows, what the second one shows, and their masks.

    Args:
        found: results with pixels and two methods or more.
        index: the image's place in `found`.
        target: which of the K explained classes.
        compare: which two methods, and how their maps become masks; by default as for `panel`.

    Raises:
        ArgumentError: as `panel`, for fewer than two methods, and for a map that is not finite.
    """
    check_image(found, index, target)
    view = _FourPanels(found, index, target, compare or Comparison())
    if view.pair is None:
        raise ArgumentError(f"found must hold two methods at least, got {', '.join(found) or 'none'}")
    for name in view.pair:
        if not view.finite(name):
            raise ArgumentError(f"index must be that of an image with finite maps, got {index}: {name} has none")
    return draw(view)


class _FourPanels(View):
    """Cells in the order of the study."""

    def cells(self) -> Iterator[tuple[Draw, bool]]:
        assert self.pair is not None
        yield self._draw_picture, True
        for name in self.pair:
            yield self._bind(self._draw_method, name), True
        yield self._draw_agreement, True

    def finite(self, name: str) -> bool:
        """Whether the method's map can be compared."""
        return self._finite(name)
