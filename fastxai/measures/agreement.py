"""Agreement of two methods: how much their masks overlap, image by image."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fastxai.errors import ArgumentError
from fastxai.measures.summary import CONFIDENCE, Summary, summarise
from fastxai.measures.table import align
from fastxai.ops import overlap


@dataclass(frozen=True, eq=False, repr=False)
class Agreement:
    """IoU and Dice of two methods' masks, per image and together. `print` shows the table.

    iou, dice: float64 [N], NaN where both masks are empty (such images count in no mean); notes: what a reader
    should know about an image's masks, "" for nothing.
    """

    ids: tuple[str, ...]
    first: str
    second: str
    iou: Tensor
    dice: Tensor
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def iou_summary(self) -> Summary:
        return summarise(self.iou.numpy())

    @cached_property
    def dice_summary(self) -> Summary:
        return summarise(self.dice.numpy())

    @property
    def mean(self) -> float:
        """Mean IoU; NaN without any image."""
        return self.iou_summary.mean

    @property
    def median(self) -> float:
        """Median IoU; NaN without any image."""
        return self.iou_summary.median

    @property
    def interval(self) -> tuple[float, float] | None:
        """Bootstrap interval of the mean IoU, 95 %; None below two images."""
        return self.iou_summary.interval

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary an image: image, iou, dice (NaN where both masks are empty), note."""
        columns = zip(self.ids, self.iou.tolist(), self.dice.tolist(), self.notes, strict=True)
        return [{"image": i, "iou": iou, "dice": dice, "note": note} for i, iou, dice, note in columns]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON data; NaN becomes None."""
        return {
            "first": self.first,
            "second": self.second,
            "confidence": CONFIDENCE,
            "iou": _summary_dict(self.iou_summary),
            "dice": _summary_dict(self.dice_summary),
            "images": [row | {"iou": _finite(row["iou"]), "dice": _finite(row["dice"])} for row in self.rows()],
        }

    def to_csv(self) -> str:
        """One line an image under the head image,iou,dice,note; numbers in full, nothing where there is none."""
        text = io.StringIO()
        writer = csv.DictWriter(text, ["image", "iou", "dice", "note"], lineterminator="\n")
        writer.writeheader()
        for row in self.rows():
            shown = {name: "" if math.isnan(row[name]) else repr(row[name]) for name in ("iou", "dice")}
            writer.writerow(row | shown)
        return text.getvalue()

    def __repr__(self) -> str:
        return f"<Agreement of {self.first} and {self.second}: {len(self)} images, mean IoU {_number(self.mean)}>"

    def __str__(self) -> str:
        noted = any(self.notes)
        head = ["image", "IoU", "Dice"] + ["note"] * noted
        body = [[r["image"], _number(r["iou"]), _number(r["dice"])] + [r["note"]] * noted for r in self.rows()]
        both = self.iou_summary, self.dice_summary
        feet = [
            ["mean", *(_number(s.mean) for s in both)],
            ["median", *(_number(s.median) for s in both)],
            [f"{CONFIDENCE:.0%} interval of the mean", *(_range(s.interval) for s in both)],
        ]
        title = f"{self.first} against {self.second}: {_plural(len(self), 'image')}"
        return f"{title}\n\n{align(head, body, feet)}"


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
    empty = {first: ~a.flatten(1).any(dim=1), second: ~b.flatten(1).any(dim=1)}
    remarks = []
    for index, given in enumerate(notes if notes is not None else [""] * len(ids)):
        without = [f"the mask of {name} is empty" for name, flags in empty.items() if bool(flags[index])]
        remarks.append("; ".join([given] * bool(given) + without))
    return Agreement(tuple(ids), first, second, iou.double().cpu(), dice.double().cpu(), tuple(remarks))


def join_agreements(parts: Sequence[Agreement]) -> Agreement:
    """One agreement of the images of all parts, at least one, in order."""
    return replace(
        parts[0],
        ids=tuple(image_id for part in parts for image_id in part.ids),
        iou=torch.cat([part.iou for part in parts]),
        dice=torch.cat([part.dice for part in parts]),
        notes=tuple(note for part in parts for note in part.notes),
    )


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value


def _summary_dict(summary: Summary) -> dict[str, Any]:
    return {
        "count": summary.count,
        "mean": _finite(summary.mean),
        "median": _finite(summary.median),
        "interval": None if summary.interval is None else list(summary.interval),
    }


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _range(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
