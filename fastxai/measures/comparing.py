"""Comparing a stream of images: a slice at a time, of which only the numbers stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fastxai.measures.agreement import Agreement, mask_notes
from fastxai.measures.agreements import Agreements
from fastxai.measures.question import Question
from fastxai.measures.sides import Answers, Side, Superpixels, measured

FAILED = "failed"


@dataclass(frozen=True)
class Slice:
    """B explained images: ids, labels and predictions int64 [B] (-1 without), and each method's answers."""

    ids: Sequence[str]
    labels: Tensor
    predictions: Tensor
    answers: Mapping[str, Answers]
    common: Superpixels | None


@dataclass
class _Pair:
    """What is kept of the images of one pair so far."""

    kept: list[Tensor] = field(default_factory=list)  # bool [B] a slice
    values: list[dict[str, Tensor]] = field(default_factory=list)
    notes: dict[int, str] = field(default_factory=dict)  # by place among those kept; most have none
    left_out: dict[str, int] = field(default_factory=dict)
    count: int = 0


class Comparing:
    """Takes slices in order and answers a question about all of them.

    Memory grows by 8 bytes an image, pair and measure, and by the ids: maps are gone with their slice.
    """

    def __init__(self, question: Question, class_names: tuple[str, ...] | None) -> None:
        self.question, self.class_names = question, class_names
        self._pairs = {pair: _Pair() for pair in question.pairs}
        self._ids: list[str] = []
        self._labels: list[Tensor] = []
        self._predictions: list[Tensor] = []
        self._failed = 0

    def leave_out(self, failed: int) -> None:
        """Count images that could not be explained."""
        self._failed += failed

    def add(self, part: Slice) -> None:
        """Compare the images of a slice."""
        if not part.ids:
            return
        self._ids += part.ids
        self._labels.append(part.labels)
        self._predictions.append(part.predictions)
        asked = self.question
        sides = {name: Side(part.answers[name], asked.rules[name], part.common) for name in asked.names}
        for (first, second), pair in self._pairs.items():
            self._compare(sides[first], sides[second], pair)

    def _compare(self, first: Side, second: Side, pair: _Pair) -> None:
        asked = self.question
        kept = []
        for reasons in zip(first.left_out, second.left_out, strict=True):
            reason = next(filter(None, reasons), "")
            kept.append(not reason)
            if reason:
                pair.left_out[reason] = pair.left_out.get(reason, 0) + 1
        chosen = torch.tensor(kept, dtype=torch.bool)
        pair.kept.append(chosen)
        found = measured(first, second, asked.measures, asked.top_segments)
        pair.values.append({name: values[chosen] for name, values in found.items()})
        if "iou" in asked.measures or "dice" in asked.measures:
            notes = ["; ".join(filter(None, both)) for both in zip(first.notes, second.notes, strict=True)]
            names = {first.answers.name: first.mask, second.answers.name: second.mask}
            every = mask_notes(notes, names)
            places = [place for place, keep in enumerate(kept) if keep]
            pair.notes |= {pair.count + n: every[place] for n, place in enumerate(places) if every[place]}
        pair.count += sum(kept)

    def result(self) -> Agreement | Agreements:
        """The agreement of two names, or of all pairs of more."""
        labels, predictions = (_joined(parts, torch.int64) for parts in (self._labels, self._predictions))
        ids = tuple(self._ids)
        found = {}
        for names, pair in self._pairs.items():
            kept = _joined(pair.kept, torch.bool)
            every = bool(kept.all())
            found[names] = Agreement(
                ids if every else tuple(i for i, keep in zip(ids, kept.tolist(), strict=True) if keep),
                *names,
                {name: _joined([v[name] for v in pair.values], torch.float64) for name in self.question.measures},
                tuple(pair.notes.get(place, "") for place in range(pair.count)),
                labels if every else labels[kept],
                predictions if every else predictions[kept],
                self.class_names,
                {name: str(self.question.rules[name]) for name in names},
                {FAILED: self._failed, **pair.left_out} if self._failed else pair.left_out,
            )
        if len(found) == 1:
            return next(iter(found.values()))
        return Agreements(self.question.names, found)


def _joined(parts: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    return torch.cat(list(parts)) if parts else torch.zeros(0, dtype=dtype)
