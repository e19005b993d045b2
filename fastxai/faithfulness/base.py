"""The protocol of measures: policies without a loop, as explainers are.

A `RowMeasure` is a frozen configuration. `begin` makes its task for a batch of images and the maps of all methods; the
engine asks the task for rows, reads the model, folds the readings back and takes the values from `finish`. An
`AgainMeasure` asks no rows of its own: it has the methods explain the same pictures once more, with other seeds or
another model, and compares the maps. Neither calls the model.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastxai.config import Config, Registry
from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.explainers import Batch, Explainer, Task
from fastxai.types import Preprocess

if TYPE_CHECKING:
    from fastxai.models import Model
    from fastxai.segments import Segmenter

LOWER, HIGHER, NEARER_ZERO = "lower", "higher", "nearer 0"  # which values are the better ones
CURVE = "curve"  # the key of what a measure found step by step, [..., steps]

Maps = NDArray[np.float32]  # [B, M, K, H, W]: of B images, M methods and K targets
Values = NDArray[np.float64]

MEASURES = Registry(
    "measure",
    {
        "deletion": "fastxai.faithfulness.curves:Deletion",
        "insertion": "fastxai.faithfulness.curves:Insertion",
        "aopc": "fastxai.faithfulness.curves:Aopc",
        "sensitivity-n": "fastxai.faithfulness.sensitivity_n:SensitivityN",
        "mu-fidelity": "fastxai.faithfulness.mu_fidelity:MuFidelity",
        "infidelity": "fastxai.faithfulness.infidelity:Infidelity",
        "sanity": "fastxai.faithfulness.sanity:Sanity",
        "stability": "fastxai.faithfulness.stability:Stability",
    },
)


@dataclass(frozen=True)
class Value:
    """One number that a measure gives for a map. It is called by the measure's name and `suffix`."""

    suffix: str
    better: str
    about: str


@dataclass(frozen=True)
class Measure(Config):
    """Base of measures. `name` tells two configurations of one measure apart; "" means the measure's name."""

    name: str = dataclasses.field(default="", kw_only=True)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.method)
        if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", self.name):
            raise ArgumentError(f"name must be lower-case letters, digits, '-', '_' and '.', got {self.name!r}")

    def settle(self, preprocess: Preprocess, ids: Sequence[str]) -> Measure:
        """The same, checked against the pictures of a run; `ArgumentError` before any work starts."""
        return self

    def segmenters(self) -> tuple[Segmenter, ...]:
        """Segmenters whose label maps `begin` needs."""
        return ()

    def values(self) -> tuple[Value, ...]:
        """What it gives for every map."""
        raise NotImplementedError

    def steps_at(self) -> tuple[float, ...]:
        """Where the points of its curve lie, for figures; empty without a curve."""
        return ()


@dataclass(frozen=True)
class RowMeasure(Measure):
    """A measure that reads the model on changed copies of the pictures."""

    def row_count(self, methods: int, targets: int) -> int:
        """Rows an image, all of them read for scores."""
        raise NotImplementedError

    def begin(self, batch: Batch, maps: Maps) -> Task:
        """A task for this batch. `Task.finish` gives float64 [B, M, K] for the suffix of every value, and [B, M, K, S]
        for `CURVE` where there is one. maps are finite."""
        raise NotImplementedError


@dataclass(frozen=True)
class AgainMeasure(Measure):
    """A measure that has methods explain the pictures once more."""

    def takes(self, explainer: Explainer) -> bool:
        """Whether it says anything about a method; the others have no value."""
        return True

    def seeds(self, seed: int) -> tuple[int, ...]:
        """Seeds to explain with, for each of the models; `seed` is that of the maps there are."""
        return (seed,)

    def model_count(self) -> int:
        """How many models `models` gives."""
        return 1

    def models(self, model: Model, seed: int) -> Iterator[Model]:
        """The models that explain again, one after the other."""
        yield model

    def compare(self, maps: Sequence[NDArray[np.float32]]) -> Mapping[str, float]:
        """By the suffix of every value, what the maps [H, W] of one image, method and target say: the one there is
        first, then one for each seed; all finite. The mean over the models counts; where there are several, the first
        value of each is a point of the curve."""
        raise NotImplementedError


# What methods say about themselves, by the field they keep it in: its name in tables, and what it is.
REPORTED: Mapping[str, tuple[str, Value]] = {
    "score": ("r2", Value("", HIGHER, "weighted R^2 of the surrogate on its own rows")),
    "delta": ("gap", Value("", LOWER, "completeness gap: |sum of the attributions - difference of the scores|")),
}


def as_measures(value: Any) -> tuple[Measure, ...]:
    """Measures from configurations or names, one or several; two of one name are refused."""
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    found = list[Measure]()
    for item in items:
        measure = MEASURES.parse(item) if isinstance(item, str) else item
        if not isinstance(measure, Measure):
            raise ArgumentTypeError(f"measures must be configurations like fx.Deletion(), got {type(item).__name__}")
        found.append(measure)
    named: dict[str, str] = {name: name for name, _ in REPORTED.values()}
    for measure in found:
        for each in measure.values():
            name = measure.name + each.suffix
            if name in named:
                raise ArgumentError(f"measures must give values of different names, got {name!r} twice: set name=")
            named[name] = measure.name
    return tuple(found)
