"""The cells of a panel: one image of the results, drawn piece by piece onto a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fastxai.ops import overlap
from fastxai.report import pictures
from fastxai.report.canvas import RULE, Page
from fastxai.report.comparison import Comparison, on_segments
from fastxai.report.names import class_label, cut, cut_middle, method_label
from fastxai.results import Found
from fastxai.types import PREDICTIONS

COPIES = 4  # perturbed copies shown


@runtime_checkable
class Perturbing(Protocol):
    """An explainer that can show the masked copies it asked the model about."""

    def perturbed(self, pixels: Tensor, labels: Tensor, digest: str, seed: int, count: int) -> Tensor:
        """uint8 [C, H, W] and int32 [H, W] -> uint8 [count, C, H, W], the first copies of its own sequence."""


Draw = Callable[[Page, int], None]


class View:
    """One image of the results, drawn cell by cell."""

    def __init__(self, found: Found, index: int, target: int, compare: Comparison) -> None:
        assert found.images is not None
        self.found, self.index, self.target, self.compare = found, index, target, compare
        self.pixels = found.images[index]
        self.scale = pictures.scale_of((self.pixels.shape[-2], self.pixels.shape[-1]))
        self.picture = pictures.rgb(self.pixels, self.scale)
        self.results = {name: found[name][index] for name in found}
        self.pair = compare.pair(found)

    @property
    def explained(self) -> int:
        return int(self.found.targets[self.index, self.target])

    def header(self, page: Page) -> None:
        found = self.found
        height, width = (int(side) for side in found.sizes[self.index])
        seen = f"{self.pixels.shape[-1]} × {self.pixels.shape[-2]}"
        targets = found.targets.shape[1]
        which = f"target {self.target + 1} of {targets}: " if targets > 1 else "explained: "
        page.header(
            cut_middle(found.ids[self.index], 60),
            f"original {width} × {height} pixels, seen by the model as {seen}",
            self._class(self.explained, 40),
            f"{which}class {self.explained}{self._probability()}",
        )

    def _class(self, index: int, widest: int) -> str:
        name = self.found.class_name(index)
        return f"class {index}" if name == str(index) else class_label(name, widest)

    def _probability(self) -> str:
        top = self.found.predictions[self.index].tolist()
        if self.explained not in top:
            return f", not among the first {sum(c >= 0 for c in top)} predictions"
        return f", probability {float(self.found.probabilities[self.index, top.index(self.explained)]):.3f}"

    def cells(self) -> Iterator[tuple[Draw, bool]]:
        """What there is to draw, in order, and whether it needs a footer."""
        yield self._draw_picture, False
        yield self._draw_predictions, False
        shown: list[Tensor] = []
        for name, result in self.results.items():
            if result.segments is not None and not any(torch.equal(result.segments, other) for other in shown):
                shown.append(result.segments)
                yield self._bind(self._draw_segments, name), False
        for name, result in self.results.items():
            if isinstance(result.explainer, Perturbing) and result.segments is not None:
                yield self._bind(self._draw_copies, name), False
        for name in self.results:
            yield self._bind(self._draw_method, name), True
        if self.pair is not None and all(self._finite(name) for name in self.pair):
            yield self._draw_agreement, True

    def _bind(self, draw: Callable[[Page, int, str], None], name: str) -> Draw:
        return lambda page, cell: draw(page, cell, name)

    def _draw_picture(self, page: Page, cell: int) -> None:
        page.titles(cell, "Picture", "as the model sees it")
        page.picture(cell, self.picture)

    def _draw_predictions(self, page: Page, cell: int) -> None:
        found = self.found
        pairs = zip(found.predictions[self.index].tolist(), found.probabilities[self.index].tolist(), strict=True)
        rows = [(index, share) for index, share in pairs if index >= 0]
        page.titles(cell, "Predictions", f"the {len(rows)} most probable classes" if len(rows) > 1 else "")
        left, top = page.corner(cell)
        step = min((page.tall - 0.3) / (PREDICTIONS - 1), 0.62)  # the last bar ends where a picture of this height does
        for number, (index, share) in enumerate(rows):
            line, bar = top - 0.16 - number * step, top - 0.30 - number * step
            chosen = index == self.explained
            weight, color = ("bold", pictures.FIRST) if chosen else ("normal", "#98a2b3")
            page.text(left, line, self._class(index, 26), size=9, weight=weight)
            page.text(left + page.cell, line, f"{share:.3f}", size=9, weight=weight, ha="right")
            page.block(left, bar, page.cell, 0.07, RULE)
            page.block(left, bar, page.cell * min(max(share, 0.0), 1.0), 0.07, color)

    def _draw_segments(self, page: Page, cell: int, name: str) -> None:
        result = self.results[name]
        assert result.segments is not None
        count = int(result.counts) if result.counts is not None else int(result.segments.max()) + 1
        made = ", ".join(segmenter.method for segmenter in result.explainer.segmenters()[:1])
        page.titles(cell, "Superpixels", f"{count} segment{'s' * (count != 1)}{f' by {made}' * bool(made)}")
        page.picture(cell, pictures.outlined(self.picture, result.segments))

    def _draw_copies(self, page: Page, cell: int, name: str) -> None:
        result = self.results[name]
        explainer = result.explainer
        assert isinstance(explainer, Perturbing)
        assert result.segments is not None
        digest = self.found.digests[self.index]
        copies = explainer.perturbed(self.pixels, result.segments, digest, self.found.seed, COPIES + 1)
        hidden = [copy for copy in copies if not torch.equal(copy, self.pixels)][:COPIES]  # not the one that keeps all
        page.titles(cell, "Perturbed copies", f"{len(hidden)} of those that {self._label(name)} scored")
        share = (1 - 0.025) / 2
        for number, copy in enumerate(hidden):
            row, column = divmod(number, 2)
            page.picture(
                cell, pictures.rgb(copy, max(1, self.scale // 2)), (column * (1 - share), row * (1 - share), share)
            )

    def _draw_method(self, page: Page, cell: int, name: str) -> None:
        result, label = self.results[name], self._label(name)
        values = result.maps[self.target].float()
        if not self._finite(name):
            page.titles(cell, label, "no map: this image has no finite values")
            page.picture(cell, 0.2 * self.picture + 0.75)
        elif on_segments(result):
            self._draw_top_segments(page, cell, name)
        elif "native" in result.data:
            page.titles(cell, label, "class activation map over the picture")
            page.picture(cell, pictures.positive_overlay(self.picture, values))
            page.color_bar(cell, pictures.POSITIVE, [(0, "0"), (1, "1")])
        else:
            limit = pictures.limit_of(values)
            page.titles(cell, label, "signed; scale ends at the 99th percentile")
            page.picture(cell, pictures.signed_overlay(self.picture, values, limit))
            page.color_bar(cell, pictures.SIGNED, [(0, f"−{limit:.2g}"), (0.5, "0"), (1, f"+{limit:.2g}")])

    def _finite(self, name: str) -> bool:
        return bool(self.results[name].maps[self.target].isfinite().all())

    def _draw_top_segments(self, page: Page, cell: int, name: str) -> None:
        result, wanted = self.results[name], self.compare.top_segments
        label = self._label(name)
        positive = int((result.weights[self.target] > 0).sum())
        shown = f"the {wanted} most positive segments"
        if positive < wanted:
            shown = f"all {positive} positive segments (fewer than {wanted})" if positive else "no positive segment"
        page.titles(cell, label, shown)
        page.picture(cell, pictures.highlighted(self.picture, self.compare.mask(result)[self.target]))
        if "score" in result.data:
            page.note(cell, f"weighted R² of the fit {float(result.score[self.target]):.3f}")

    def _draw_agreement(self, page: Page, cell: int) -> None:
        assert self.pair is not None
        first, second = (self.compare.mask(self.results[name])[self.target] for name in self.pair)
        iou = float(overlap(first[None], second[None])[0])
        rules = " and ".join(self.compare.rule(self.results[name]) for name in self.pair)
        page.titles(cell, "Agreement: none, no mask" if math.isnan(iou) else f"Agreement: IoU {iou:.3f}", rules)
        page.picture(cell, pictures.two_masks(self.picture, first, second))
        names = [cut(self._label(name), 13) for name in self.pair]
        page.legend(cell, [(pictures.FIRST, names[0]), (pictures.SECOND, names[1]), (pictures.BOTH, "both")])

    def _label(self, name: str) -> str:
        return method_label(name, self.results[name].explainer.method)
