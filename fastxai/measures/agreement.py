"""Agreement of two methods: how much they say the same, image by image."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from fastxai.errors import ArgumentError
from fastxai.measures.groups import Groups, group_names
from fastxai.measures.question import MEASURES
from fastxai.measures.summary import CONFIDENCE, Summary, summarise
from fastxai.measures.table import align, shorten
from fastxai.measures.text import between, exact, finite, left_out_line, number, plural, summary_dict
from fastxai.ops import overlap

_LISTED = 50  # images that a printed table lists one by one
_ENDS = 10  # of more, the best and the worst
_NAMED = 5  # more images than these have their best and worst named below the table


@dataclass(frozen=True, eq=False, repr=False)
class Agreement:
    """What two methods have in common, per image and together. `print` shows the table.

    values: by measure, float64 [N], NaN where it is not defined (both masks empty, a constant map); such images count
    in no mean. notes: what a reader should know about an image's masks, "" for nothing. labels, predictions int64
    [N], -1 without one: of the images, for groups. rules: in words, how each method's maps became masks. left_out:
    images that are not among the N, counted by reason. Means and intervals are of the first measure unless another
    one is named.
    """

    ids: tuple[str, ...]
    first: str
    second: str
    values: Mapping[str, Tensor]
    notes: tuple[str, ...]
    labels: Tensor | None = None
    predictions: Tensor | None = None
    class_names: tuple[str, ...] | None = None
    rules: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def measures(self) -> tuple[str, ...]:
        """What was measured, `iou` first where it was."""
        return tuple(self.values)

    def __getitem__(self, measure: str) -> Tensor:
        """One measure of every image, float64 [N]."""
        if measure not in self.values:
            raise ArgumentError(f"measure must be one of {', '.join(self.values)}, got {measure!r}")
        return self.values[measure]

    @property
    def iou(self) -> Tensor:
        """Intersection over union of the masks, float64 [N]."""
        return self["iou"]

    @property
    def dice(self) -> Tensor:
        """Dice of the masks, float64 [N]."""
        return self["dice"]

    @cached_property
    def _summaries(self) -> dict[str, Summary]:
        return {}

    def summary(self, measure: str | None = None) -> Summary:
        """Mean, median and bootstrap interval of a measure over the images where it is defined."""
        measure = self.measures[0] if measure is None else measure
        if measure not in self._summaries:
            self._summaries[measure] = summarise(self[measure].numpy())
        return self._summaries[measure]

    @property
    def iou_summary(self) -> Summary:
        return self.summary("iou")

    @property
    def dice_summary(self) -> Summary:
        return self.summary("dice")

    @property
    def mean(self) -> float:
        """Mean IoU, or of the first measure; NaN without any image."""
        return self.summary().mean

    @property
    def median(self) -> float:
        """Median IoU, or of the first measure; NaN without any image."""
        return self.summary().median

    @property
    def interval(self) -> tuple[float, float] | None:
        """Bootstrap interval of the mean IoU, or of the first measure, 95 %; None below two images."""
        return self.summary().interval

    def best(self, count: int = 5, measure: str | None = None) -> list[dict[str, Any]]:
        """The images that agree most, as `rows`, best first; those without a value are never among them."""
        return self._ordered(count, measure, descending=True)

    def worst(self, count: int = 5, measure: str | None = None) -> list[dict[str, Any]]:
        """The images that agree least, worst first."""
        return self._ordered(count, measure, descending=False)

    def _ordered(self, count: int, measure: str | None, descending: bool) -> list[dict[str, Any]]:
        values = self[self.measures[0] if measure is None else measure]
        known = (~values.isnan()).nonzero().flatten()
        order = values[known].sort(descending=descending, stable=True).indices[:count]
        return [self._row(place) for place in known[order].tolist()]

    def by(self, what: Literal["label", "class"]) -> Groups:
        """The images in groups: by their label, or by the class that the model predicted."""
        return Groups.of(what, self._groups(what), {name: values.numpy() for name, values in self.values.items()})

    def _groups(self, what: str) -> list[str]:
        return group_names(what, self.labels, self.predictions, self.class_names)

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary an image: image, label and class where they are known, the measures (NaN where not defined),
        note."""
        return [self._row(place) for place in range(len(self))]

    def _row(self, place: int) -> dict[str, Any]:
        row: dict[str, Any] = {"image": self.ids[place]}
        for what, names in self._names.items():
            row[what] = names[place]
        row |= {name: float(values[place]) for name, values in self.values.items()}
        return row | {"note": self.notes[place]}

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        """Label and class of each image, as far as they are known."""
        known = {"label": self.labels, "class": self.predictions}
        return {what: self._groups(what) for what, ids in known.items() if ids is not None and bool((ids >= 0).any())}

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON data; NaN becomes None."""
        return {
            "first": self.first,
            "second": self.second,
            "rules": dict(self.rules),
            "confidence": CONFIDENCE,
            "measures": list(self.measures),
            **{name: summary_dict(self.summary(name)) for name in self.measures},
            "left_out": dict(self.left_out),
            "images": [row | {name: finite(row[name]) for name in self.measures} for row in self.rows()],
        }

    def to_csv(self) -> str:
        """One line an image under a head: image, label and class where known, the measures, note; numbers in full,
        nothing where there is none."""
        text = io.StringIO()
        writer = csv.DictWriter(text, ["image", *self._names, *self.measures, "note"], lineterminator="\n")
        writer.writeheader()
        for row in self.rows():
            writer.writerow(row | {name: exact(row[name]) for name in self.measures})
        return text.getvalue()

    def __repr__(self) -> str:
        shown = f"mean {MEASURES.get(self.measures[0], self.measures[0])} {number(self.mean)}"
        return f"<Agreement of {self.first} and {self.second}: {len(self)} images, {shown}>"

    def __str__(self) -> str:
        title = f"{self.first} against {self.second}: {plural(len(self), 'image')}"
        parts = [title, *self.remarks(), "", self._table()]
        if _NAMED < len(self) <= _LISTED:
            ends = (("most", self.best(3)), ("least", self.worst(3)))
            name = MEASURES[self.measures[0]]
            parts.append("")
            parts += [f"{end} {name}: {', '.join(shorten(row['image'], 36) for row in rows)}" for end, rows in ends]
        return "\n".join(parts)

    def remarks(self) -> list[str]:
        """Lines on how the masks were made and which images are not counted, as far as there is something to say."""
        masked = "iou" in self.values or "dice" in self.values
        rules = "; ".join(f"{name} {rule}" for name, rule in self.rules.items())
        lines = [f"masks: {rules}" if rules and masked else "", left_out_line(self.left_out)]
        return [line for line in lines if line]

    def _table(self) -> str:
        listed = len(self) <= _LISTED
        shown = self.rows() if listed else [*self.best(_ENDS), *reversed(self.worst(_ENDS))]
        noted = any(row["note"] for row in shown)
        head = ["image", *(MEASURES[name] for name in self.measures)] + ["note"] * noted
        body = [[r["image"], *(number(r[name]) for name in self.measures)] + [r["note"]] * noted for r in shown]
        if not listed:
            body.insert(_ENDS, [f"... {len(self) - len(shown):,} between ..."])
        every = [self.summary(name) for name in self.measures]
        feet = [
            ["mean", *(number(s.mean) for s in every)],
            ["median", *(number(s.median) for s in every)],
            [f"{CONFIDENCE:.0%} interval of the mean", *(between(s.interval) for s in every)],
        ]
        return align(head, body, feet, right=range(1, 1 + len(self.measures)))


def compare_masks(
    ids: Sequence[str], first: str, second: str, a: Tensor, b: Tensor, *, notes: Sequence[str] | None = None
) -> Agreement:
    """Intersection over union |a & b| / |a | b| and Dice 2 |a & b| / (|a| + |b|) of two methods' masks.

    Args:
        ids: N image ids.
        first, second: the methods' names.
        a, b: their masks, bool [N, H, W].
        notes: N remarks, "" for none, for instance that a mask has fewer segments than asked for.

    Raises:
        ArgumentError: for masks that are not bool or whose shapes do not fit.
    """
    for name, mask in (("a", a), ("b", b)):
        if mask.dtype != torch.bool or mask.dim() != 3:
            raise ArgumentError(f"{name} must be bool [N, H, W], got {mask.dtype} {tuple(mask.shape)}")
    if a.shape != b.shape or len(ids) != a.shape[0]:
        raise ArgumentError(
            f"a and b must be masks of the same {len(ids)} images, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    if notes is not None and len(notes) != len(ids):
        raise ArgumentError(f"notes must be one for each of {len(ids)} images, got {len(notes)}")
    iou, dice = overlap(a, b)
    values = {"iou": iou.double().cpu(), "dice": dice.double().cpu()}
    given = [""] * len(ids) if notes is None else notes
    return Agreement(tuple(ids), first, second, values, tuple(mask_notes(given, {first: a, second: b})))


def mask_notes(notes: Sequence[str], masks: Mapping[str, Tensor]) -> list[str]:
    """N remarks, and that the mask of a method is empty where it is; masks bool [N, H, W] by method."""
    empty = {name: (~mask.flatten(1).any(dim=1)).tolist() for name, mask in masks.items()}
    return [
        "; ".join([note] * bool(note) + [f"the mask of {name} is empty" for name in empty if empty[name][place]])
        for place, note in enumerate(notes)
    ]
