"""What the measures found: per image, the mean with its interval, and the paired difference to random."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxai.errors import ArgumentError
from fastxai.faithfulness.base import HIGHER, LOWER, NEARER_ZERO
from fastxai.measures.summary import CONFIDENCE, Summary, summarise
from fastxai.measures.table import align


@dataclass(frozen=True)
class Column:
    """One value of the table: which is better, "lower", "higher" or "nearer 0", and what it is in words."""

    better: str
    about: str


@dataclass(frozen=True)
class Points:
    """The mean over images of a curve: at [S], and by method [S]."""

    at: tuple[float, ...]
    means: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, eq=False, repr=False)
class Faithfulness:
    """The faithfulness of M methods on N images. `print` shows the tables.

    values: by name of the value, float64 [N, M], each the mean over the image's targets; NaN where there is none: the
    value says nothing about the method, the model's answers were not finite, or a correlation is undefined. columns:
    what each value is. reference: the method of noise that the others are compared with. left_out: images that were not
    scored, and why. curves: by name of the measure. measures: configurations, as plain data. about: where all this
    comes from.
    """

    ids: tuple[str, ...]
    methods: tuple[str, ...]
    reference: str
    values: Mapping[str, NDArray[np.float64]]
    columns: Mapping[str, Column]
    measures: tuple[Mapping[str, Any], ...] = ()
    curves: Mapping[str, Points] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    _known: dict[tuple[str, ...], Summary] = field(default_factory=dict, init=False)  # intervals take a while

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, value: str, method: str) -> NDArray[np.float64]:
        """One value of one method, float64 [N]; `ArgumentError` for a name that is not in the table."""
        if value not in self.values:
            raise ArgumentError(f"value must be one of {', '.join(self.values)}, got {value!r}")
        if method not in self.methods:
            raise ArgumentError(f"method must be one of {', '.join(self.methods)}, got {method!r}")
        return self.values[value][:, self.methods.index(method)]

    def summary(self, value: str, method: str) -> Summary:
        """Mean, median and bootstrap interval of the mean over images."""
        return self._summarised("mean", value, method, self.of(value, method))

    def difference(self, value: str, method: str) -> Summary:
        """The same of the differences to the reference, image by image, where both have a value; of their distances
        from 0 where those near 0 are the better ones."""
        found, reference = self.of(value, method), self.of(value, self.reference)
        apart = abs(found) - abs(reference) if self.columns[value].better == NEARER_ZERO else found - reference
        return self._summarised("difference", value, method, apart)

    def _summarised(self, what: str, value: str, method: str, numbers: NDArray[np.float64]) -> Summary:
        if (what, value, method) not in self._known:
            self._known[what, value, method] = summarise(numbers)
        return self._known[what, value, method]

    def verdict(self, value: str, method: str) -> str:
        """ "better" or "worse" than the reference where the interval of the difference excludes 0; otherwise ""."""
        interval = self.difference(value, method).interval
        if method == self.reference or interval is None or interval[0] <= 0.0 <= interval[1]:
            return ""
        lower = interval[1] < 0.0
        return "worse" if lower == (self.columns[value].better == HIGHER) else "better"

    def rows(self) -> list[dict[str, Any]]:
        """A dictionary for every value of every method that any image has: measure, method, better, count, mean,
        median, interval, the same of the difference to the reference (None for itself), verdict."""
        return [
            {
                "measure": name,
                "method": method,
                "better": column.better,
                **_summary(self.summary(name, method)),
                "difference": None if method == self.reference else _summary(self.difference(name, method)),
                "verdict": self.verdict(name, method),
            }
            for name, column in self.columns.items()
            for method in self.methods
            if self.summary(name, method).count
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON data; NaN becomes None."""
        return {
            **self.about,
            "reference": self.reference,
            "confidence": CONFIDENCE,
            "methods": list(self.methods),
            "measures": [dict(measure) for measure in self.measures],
            "rows": self.rows(),
            "values": {
                name: {
                    "better": column.better,
                    "about": column.about,
                    "images": {method: _plain(self.of(name, method)) for method in self.methods},
                }
                for name, column in self.columns.items()
            },
            "curves": {
                name: {"at": list(points.at), "mean": {m: _plain(means) for m, means in points.means.items()}}
                for name, points in self.curves.items()
            },
            "images": list(self.ids),
            "left_out": dict(self.left_out),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Faithfulness:
        """The table that `to_dict` described; `KeyError`, `TypeError` or `ValueError` where it is damaged."""
        ids, methods = tuple(map(str, data["images"])), tuple(map(str, data["methods"]))
        values, columns = {}, {}
        for name, column in data["values"].items():
            table = [[math.nan if x is None else float(x) for x in column["images"][method]] for method in methods]
            if any(len(row) != len(ids) for row in table) or column["better"] not in (LOWER, HIGHER, NEARER_ZERO):
                raise ValueError(f"{name} is not a value of {len(ids)} images")
            values[str(name)] = np.array(table, dtype=np.float64).T.reshape(len(ids), len(methods))
            columns[str(name)] = Column(column["better"], str(column["about"]))
        if data["reference"] not in methods:
            raise ValueError(f"{data['reference']!r} is none of the methods")
        known = ("reference", "confidence", "methods", "measures", "rows", "values", "curves", "images", "left_out")
        return Faithfulness(
            ids=ids,
            methods=methods,
            reference=str(data["reference"]),
            values=values,
            columns=columns,
            measures=tuple(dict(measure) for measure in data["measures"]),
            curves={
                str(name): Points(
                    tuple(map(float, curve["at"])),
                    {
                        str(m): tuple(math.nan if x is None else float(x) for x in means)
                        for m, means in curve["mean"].items()
                    },
                )
                for name, curve in data["curves"].items()
            },
            left_out={str(image): str(reason) for image, reason in data["left_out"].items()},
            about={name: value for name, value in data.items() if name not in known},
        )

    def to_csv(self) -> str:
        """One line an image and method under the head image,method,<values>; nothing where there is no number."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["image", "method", *self.columns])
        for row, image in enumerate(self.ids):
            for place, method in enumerate(self.methods):
                found = [float(self.values[name][row, place]) for name in self.columns]
                writer.writerow([image, method, *("" if math.isnan(x) else repr(x) for x in found)])
        return text.getvalue()

    def __repr__(self) -> str:
        return f"<Faithfulness of {', '.join(self.methods)}: {len(self)} images, {', '.join(self.columns)}>"

    def __str__(self) -> str:
        parts = [self._table(name) for name in self.columns]
        said = f"{len(self)} image{'' if len(self) == 1 else 's'}, {CONFIDENCE:.0%} bootstrap intervals of means"
        if self.left_out:
            said += f"; {len(self.left_out)} more could not be scored"
        return "\n\n".join([*parts, said])

    def _table(self, name: str) -> str:
        column = self.columns[name]
        rows = []
        for method in self.methods:
            found, apart = self.summary(name, method), self.difference(name, method)
            if not found.count:
                continue
            same = method == self.reference or not apart.count
            rows.append(
                [
                    method,
                    _number(found.mean),
                    "" if same else _number(apart.mean, sign=True),
                    "" if same else _range(apart.interval, sign=True),
                    self.verdict(name, method),
                    _range(found.interval),
                    str(found.count),
                ]
            )
        head = ["method", "mean", f"less {self.reference}", "interval", "", "interval of the mean", "images"]
        title = f"{name}: {column.about} ({column.better} is better)"
        return f"{title}\n\n{align(head, rows)}" if rows else f"{title}\n\nno image has this value"


def _plain(numbers: Sequence[float] | NDArray[np.float64]) -> list[float | None]:
    return [None if math.isnan(x) else float(x) for x in numbers]


def _summary(summary: Summary) -> dict[str, Any]:
    mean, median = _plain([summary.mean, summary.median])
    interval = None if summary.interval is None else list(summary.interval)
    return {"count": summary.count, "mean": mean, "median": median, "interval": interval}


def _number(value: float, *, sign: bool = False) -> str:
    """Four places, or for less than that two digits."""
    plus = "+" if sign else ""
    return f"{value:{plus}.4f}" if value == 0.0 or abs(value) >= 1e-3 else f"{value:{plus}.1e}"


def _range(interval: tuple[float, float] | None, *, sign: bool = False) -> str:
    return "-" if interval is None else " to ".join(_number(end, sign=sign) for end in interval)
