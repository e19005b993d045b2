"""Agreement of several methods: every pair of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fastxai.errors import ArgumentError
from fastxai.measures.agreement import Agreement
from fastxai.measures.groups import Groups
from fastxai.measures.question import MEASURES
from fastxai.measures.table import align
from fastxai.measures.text import between, number, plural

Pair = tuple[str, str]


@dataclass(frozen=True, eq=False, repr=False)
class Agreements:
    """The agreement of all pairs of `names`: `found["lime", "gradcam"]` is one. `print` shows matrices and pairs."""

    names: tuple[str, ...]
    pairs: Mapping[Pair, Agreement]

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Agreement]:
        return iter(self.pairs.values())

    def __getitem__(self, pair: Pair) -> Agreement:
        """The agreement of two names, in any order."""
        for key in (pair, pair[::-1]):
            if key in self.pairs:
                return self.pairs[key]
        raise ArgumentError(f"pair must be two different ones of {', '.join(self.names)}, got {pair!r}")

    @property
    def measures(self) -> tuple[str, ...]:
        """What was measured."""
        return next(iter(self)).measures

    def matrix(self, measure: str | None = None) -> Tensor:
        """Means of a measure (the first by default) over images, float64 [M, M] in the order of `names`.

        Symmetric, with ones on its diagonal: every measure of a method with itself is 1.
        """
        found = torch.eye(len(self.names), dtype=torch.float64)
        for (first, second), pair in self.pairs.items():
            i, j = self.names.index(first), self.names.index(second)
            found[i, j] = found[j, i] = pair.summary(measure).mean
        return found

    def by(self, what: Literal["label", "class"]) -> dict[Pair, Groups]:
        """Every pair's groups of images."""
        return {names: pair.by(what) for names, pair in self.pairs.items()}

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON data; NaN becomes None."""
        return {"names": list(self.names), "measures": list(self.measures), "pairs": [p.to_dict() for p in self]}

    def to_csv(self) -> str:
        """One line a pair and image: first, second, and what `Agreement.to_csv` gives."""
        text = io.StringIO()
        head = None
        for (first, second), pair in self.pairs.items():
            reader = csv.DictReader(io.StringIO(pair.to_csv()))
            if head is None:
                head = csv.DictWriter(text, ["first", "second", *(reader.fieldnames or ())], lineterminator="\n")
                head.writeheader()
            head.writerows({"first": first, "second": second, **row} for row in reader)
        return text.getvalue()

    def __repr__(self) -> str:
        return f"<Agreements of {', '.join(self.names)}: {plural(len(self), 'pair')}>"

    def __str__(self) -> str:
        parts = [f"{', '.join(self.names)}: {plural(len(self), 'pair')}"]
        rules = {name: rule for pair in self for name, rule in pair.rules.items()}
        if rules and {"iou", "dice"} & set(self.measures):
            parts.append("masks: " + "; ".join(f"{name} {rules[name]}" for name in self.names))
        for measure in self.measures:
            parts += ["", self._matrix(measure)]
        parts += ["", self._pairs()]
        left_out: dict[str, int] = {}
        for pair in self:
            for reason, count in pair.left_out.items():
                left_out[reason] = max(count, left_out.get(reason, 0))
        if left_out:
            parts += ["", "left out of their pairs: " + ", ".join(f"{n:,} {why}" for why, n in left_out.items())]
        return "\n".join(parts)

    def _matrix(self, measure: str) -> str:
        values = self.matrix(measure).tolist()
        head = [f"mean {MEASURES[measure]}", *self.names]
        body = [
            [name, *("1" if i == j else number(value) for j, value in enumerate(values[i]))]
            for i, name in enumerate(self.names)
        ]
        return align(head, body, right=range(1, len(head)))

    def _pairs(self) -> str:
        head = ["pair", "measure", "images", "mean", "median", "95% interval of the mean"]
        body = []
        for (first, second), pair in self.pairs.items():
            for place, measure in enumerate(self.measures):
                found = pair.summary(measure)
                name = f"{first}, {second}" if place == 0 else ""
                cells = [str(found.count), number(found.mean), number(found.median), between(found.interval)]
                body.append([name, MEASURES[measure], *cells])
        return align(head, body, right=range(2, len(head)))
