"""Agreement by groups of images: those of one label, or of one predicted class."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from fastxai.config import check_choice
from fastxai.errors import ArgumentError
from fastxai.measures.question import MEASURES
from fastxai.measures.summary import Summary, summarise
from fastxai.measures.table import align
from fastxai.measures.text import between, number, summary_cells, summary_dict

NONE = "(none)"  # the group of images without a label or a class


@dataclass(frozen=True, eq=False, repr=False)
class Groups:
    """Summaries by group, the group with the highest mean of the first measure first. `print` shows the table.

    what: "label" or "class". images: by group, how many. summaries: by group and measure.
    """

    what: str
    images: Mapping[str, int]
    summaries: Mapping[str, Mapping[str, Summary]]

    @staticmethod
    def of(what: str, names: Sequence[str], values: Mapping[str, np.ndarray]) -> Groups:
        """Group N images by name; values: by measure, float64 [N], NaN where not defined."""
        order = np.array(names, dtype=object)
        images, found = {}, {}
        for name in sorted(set(names)):
            inside = order == name
            images[name] = int(inside.sum())
            found[name] = {measure: summarise(column[inside]) for measure, column in values.items()}
        main = next(iter(values))
        ranked = sorted(found, key=lambda name: (-np.nan_to_num(found[name][main].mean, nan=-np.inf), name))
        return Groups(what, {name: images[name] for name in ranked}, {name: found[name] for name in ranked})

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, group: str) -> Mapping[str, Summary]:
        if group not in self.summaries:
            raise ArgumentError(f"group must be one of {', '.join(self.summaries)}, got {group!r}")
        return self.summaries[group]

    @property
    def _measures(self) -> tuple[str, ...]:
        return tuple(next(iter(self.summaries.values()), {}))

    def to_dict(self) -> list[dict[str, Any]]:
        """One dictionary a group as plain JSON data: group, images, and each measure's summary."""
        return [
            {"group": name, "images": count}
            | {measure: summary_dict(found) for measure, found in self.summaries[name].items()}
            for name, count in self.images.items()
        ]

    def rows(self) -> list[dict[str, str]]:
        """One line a group as cells of CSV: the group, images, and for each measure mean, median, low and high."""
        return [
            {self.what: name, "images": str(count)}
            | {
                k: v
                for measure, found in self.summaries[name].items()
                for k, v in summary_cells(measure, found).items()
            }
            for name, count in self.images.items()
        ]

    def to_csv(self) -> str:
        """`rows` under a head."""
        return lines_of(self.rows())

    def __repr__(self) -> str:
        return f"<Groups by {self.what}: {len(self)}>"

    def __str__(self) -> str:
        measures = self._measures
        head = [self.what, "images"]
        for measure in measures:
            head += [f"mean {MEASURES[measure]}", "95% interval"]
        body = []
        for name, count in self.images.items():
            cells = [name, str(count)]
            for found in self.summaries[name].values():
                cells += [number(found.mean), between(found.interval)]
            body.append(cells)
        return align(head, body, right=range(1, len(head)))


def group_names(
    what: str, labels: Tensor | None, predictions: Tensor | None, class_names: tuple[str, ...] | None
) -> list[str]:
    """The group of each image: the name of its label or of its predicted class, its number without names.

    labels, predictions: int64 [N], -1 without one, which is group "(none)". Raises `ArgumentError` where no image has
    one: nothing could be told apart.
    """
    check_choice("by", what, ("label", "class"))
    ids = labels if what == "label" else predictions
    if ids is None or not bool((ids >= 0).any()):
        raise ArgumentError(f"by must be something that images have, got {what!r}: no image has a {what}")
    return [_class_name(index, class_names) for index in ids.tolist()]


def _class_name(index: int, names: tuple[str, ...] | None) -> str:
    if index < 0:
        return NONE
    return names[index] if names is not None and index < len(names) else str(index)


def lines_of(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows of equal keys as CSV under a head; "" without rows."""
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
