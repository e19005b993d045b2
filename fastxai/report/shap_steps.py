"""GradientSHAP in four cells: the picture, its predictions, points on the way from black, and the attributions."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure

from fastxai.errors import ArgumentError
from fastxai.report import pictures
from fastxai.report.canvas import Page
from fastxai.report.cells import Draw, View
from fastxai.report.comparison import Comparison
from fastxai.report.drawn import check_image, draw
from fastxai.results import Found

_SHARES = (0.25, 0.5, 0.75, 1.0)  # of the picture in the points that are shown


def shap_steps(found: Found, index: int, *, target: int = 0, name: str = "gradient-shap") -> Figure:
    """Four cells: the picture, its five predictions, points between black and the picture, and the signed attributions
    with the gap to completeness where the results hold it.

    Args:
        found: results with pixels.
        index: the image's place in `found`.
        target: which of the K explained classes.
        name: the method, a `GradientShap` with a black baseline.

    Raises:
        ArgumentError: as `panel`, and for another method or baseline.
    """
    check_image(found, index, target)
    explainer = found[name].explainer.to_dict()  # as data: the class would load captum, and captum pyplot
    if explainer["method"] != "gradient-shap" or explainer["baseline"] != "black":
        raise ArgumentError(f"name must be that of a GradientShap with a black baseline, got {name!r}")
    return draw(_ShapSteps(found, index, target, name, explainer["samples"]))


class _ShapSteps(View):
    """Cells in the order of the method."""

    def __init__(self, found: Found, index: int, target: int, name: str, samples: int) -> None:
        super().__init__(found, index, target, Comparison())
        self.name, self.samples = name, samples

    def cells(self) -> Iterator[tuple[Draw, bool]]:
        yield self._draw_picture, True
        yield self._draw_predictions, True
        yield self._draw_points, True
        yield self._bind(self._draw_method, self.name), True

    def _draw_points(self, page: Page, cell: int) -> None:
        """Mixtures of the black baseline and the picture."""
        page.titles(cell, "From black to the picture", f"gradients are read at {self.samples} such points")
        share = (1 - 0.025) / 2
        small = pictures.rgb(self.pixels, max(1, self.scale // 2))
        for number, alpha in enumerate(_SHARES):
            row, column = divmod(number, 2)
            page.picture(cell, alpha * small, (column * (1 - share), row * (1 - share), share))
        result = self.results[self.name]
        if "delta" in result.data and bool(result.delta[self.target].isfinite()):
            total, gap = float(result.maps[self.target].sum()), float(result.delta[self.target])
            page.note(cell, f"sum {total:.3f}, off by {gap:+.3f} from F(x) − F(black)".replace("-", "−"))
