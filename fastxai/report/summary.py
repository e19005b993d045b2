"""What the page says about a run as a whole: the values that its template fills in."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastxai.measures import summarise
from fastxai.measures.table import printable
from fastxai.report.names import class_label, method_label
from fastxai.report.options import ReportOptions
from fastxai.report.scores import Score
from fastxai.report.tally import Tally
from fastxai.results import Found

if TYPE_CHECKING:
    from fastxai.store import Run  # loads the explainers and what they need

CLASSES = 12  # most frequent predictions listed
FAILURES = 500  # listed
TINTS = 10  # steps of the agreement matrices' colours


@dataclass(frozen=True)
class Kept:
    """What the page holds of `images` explained images: `whole` ones with all maps, `thumbnails`, its size in bytes."""

    images: int
    whole: int
    thumbnails: int
    pixels: bool
    side: int
    size: int
    max_size: int

    @property
    def sizes(self) -> str:
        """How large the file is, and how large it may be."""
        return f"{size_text(self.size)} of at most {size_text(self.max_size)}"

    @property
    def notes(self) -> list[str]:
        """What a reader must know was left out; nothing where all is there."""
        limit = f"to keep this file below {size_text(self.max_size)}"
        found = []
        if self.whole < self.images:
            found.append(
                f"Maps of {self.images - self.whole:,} of {self.images:,} images were left out {limit}: the large view "
                f"opens for the first {self.whole:,}."
            )
        if self.pixels and self.thumbnails < self.images:
            found.append(f"Thumbnails of {self.images - self.thumbnails:,} images were left out {limit}.")
        if not self.pixels:
            found.append("This run was made without pixels, so that maps are shown on a plain ground.")
        return found


@dataclass(frozen=True)
class Cell:
    """One number of a matrix: its text, the step of its colour, and a sentence about it."""

    text: str
    tint: str
    title: str


def summarise_run(
    run: Run, template: Found, tally: Tally, options: ReportOptions, scores: Sequence[Score]
) -> dict[str, Any]:
    """The template's values but what the page could keep (`Kept`), all plain text and numbers."""
    info = run.info()
    labels = [method_label(name, template[name].explainer.method) for name in template]
    model = info["model"]
    iou, correlation = tally.iou, tally.correlation
    return {
        "title": options.title or run.path.resolve().stem,
        "model": printable(str(model.get("name") or model.get("spec") or "model")),
        "created": info["created"].replace("T", " ").removesuffix("+00:00"),
        "images": len(run),
        "explained": len(tally),
        "failed": len(tally.failures),
        "methods": labels,
        "target": options.target,
        "targets": run.config.targets_per_image,
        "confidence": _number(float(np.nanmean(tally.confidence)) if tally.confidence else math.nan, 2),
        "iou_mean": _number(_mean(iou), 3),
        "labelled": _right(tally),
        "rules": [(label, options.compare.rule(template[name])) for label, name in zip(labels, template, strict=True)],
        "iou_matrix": _matrix(labels, tally.pairs, iou, "IoU", intervals=True),
        "correlation_matrix": _matrix(labels, tally.pairs, correlation, "rank correlation", intervals=False),
        "classes": _classes(tally, template),
        "class_count": len(set(tally.predicted)),
        "measures": _measures(scores, template),
        "failures": tally.failures[:FAILURES],
        "more_failures": max(0, len(tally.failures) - FAILURES),
        "configuration": _configuration(info),
        "versions": sorted(info["versions"].items()),
    }


def size_text(count: float) -> str:
    """Bytes for people: 12.3 MB."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _matrix(
    labels: Sequence[str], pairs: Sequence[tuple[int, int]], values: np.ndarray, what: str, *, intervals: bool
) -> list[tuple[str, list[Cell | None]]]:
    """Rows of (method, one cell a method); None on the diagonal. Both halves hold the same numbers."""
    cells: dict[tuple[int, int], Cell] = {}
    for column, (a, b) in enumerate(pairs):
        given = values[:, column]
        found = given[~np.isnan(given)]
        mean = float(found.mean()) if found.size else math.nan
        sentence = f"{labels[a]} and {labels[b]}: mean {what} {_number(mean, 4)}"
        interval = summarise(given).interval if intervals else None
        if interval is not None:
            sentence += f", 95% interval {interval[0]:.4f} to {interval[1]:.4f}"
        sentence += f", {found.size:,} image{'s' * (found.size != 1)}"
        cells[a, b] = cells[b, a] = Cell(_number(mean, 3), _tint(mean), sentence)
    return [(label, [cells.get((row, column)) for column in range(len(labels))]) for row, label in enumerate(labels)]


def _tint(value: float) -> str:
    """A class of the style sheet: p0..p10 for 0..1, n0..n10 for 0..-1."""
    if math.isnan(value):
        return "none"
    return f"{'n' if value < 0 else 'p'}{min(TINTS, round(TINTS * abs(value)))}"


def _classes(tally: Tally, found: Found) -> list[dict[str, Any]]:
    """The classes predicted most often, with their share of the most frequent one as a bar."""
    counts = Counter(tally.predicted).most_common(CLASSES)
    sums: dict[int, float] = {}
    for index, share in zip(tally.predicted, tally.confidence, strict=True):
        sums[index] = sums.get(index, 0.0) + share
    return [
        {
            "index": index,
            "name": printable(class_label(found.class_name(index), 40)),
            "count": count,
            "bar": f"{100 * count / counts[0][1]:.1f}%",
            "confidence": _number(sums[index] / count, 2),
        }
        for index, count in counts
    ]


def _measures(scores: Sequence[Score], found: Found) -> list[dict[str, Any]]:
    """Scores grouped by measure, in their order, ready to print."""
    names: dict[str, list[Score]] = {}
    for score in scores:
        names.setdefault(score.measure, []).append(score)
    return [
        {
            "name": printable(measure),
            "better": rows[0].better,
            "about": printable(rows[0].about),
            "rows": [
                {
                    "method": _label(score.method, found),
                    "mean": _number(score.mean, 4),
                    "interval": _range(score.interval),
                    "count": score.count,
                    "difference": "–" if score.difference is None else f"{score.difference:+.4f}",
                    "difference_interval": _range(score.difference_interval),
                    "verdict": score.verdict,
                }
                for score in rows
            ],
        }
        for measure, rows in names.items()
    ]


def _label(method: str, found: Found) -> str:
    name = printable(method)
    return method_label(name, found[method].explainer.method if method in found.methods else name)


def _right(tally: Tally) -> tuple[int, int] | None:
    """(right, labelled) of the images with a label."""
    pairs = [(p, label) for p, label in zip(tally.predicted, tally.labels, strict=True) if label >= 0]
    return (sum(p == label for p, label in pairs), len(pairs)) if pairs else None


def _configuration(info: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Groups of (name, value): the run, its model, its settings and every method."""
    # without the run's path: a page is passed on, and need not tell where it was made
    plain = ("source", "created", "targets", "seed", "store", "pixels", "picture_size", "shards")
    groups = [("Run", {name: info[name] for name in plain}), ("Model", info["model"]), ("Settings", info["settings"])]
    methods = [(str(method["name"]), {k: v for k, v in method.items() if k != "name"}) for method in info["methods"]]
    return [(group, list(_flat(values))) for group, values in [*groups, *methods]]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield printable(prefix + name.replace("_", " ")), printable(str(value))


def _mean(values: np.ndarray) -> float:
    found = values[~np.isnan(values)]
    return float(found.mean()) if found.size else math.nan


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _range(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
