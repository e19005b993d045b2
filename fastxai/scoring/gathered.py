"""Values of slice after slice -> the columns of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fastxai.faithfulness import REPORTED, Measure
from fastxai.faithfulness.base import CURVE, Values
from fastxai.faithfulness.table import Column, Points


class Gathered:
    """Values by name, [B, M] a slice, and curves by measure, [B, M, S]; both means over targets."""

    def __init__(self) -> None:
        self._values: dict[str, list[Values]] = {}
        self._curves: dict[str, list[Values]] = {}

    def add(self, measure: str, found: Mapping[str, Values]) -> None:
        """What a measure found in a slice, [B, M, K] by suffix, and [B, M, K, S] for a curve."""
        for suffix, values in found.items():
            if suffix == CURVE:
                self._curves.setdefault(measure, []).append(mean_of_known(values, axis=2))
            else:
                self._values.setdefault(measure + suffix, []).append(mean_of_known(values, axis=2))

    def add_values(self, found: Mapping[str, Values]) -> None:
        """Values [B, M] by their full names."""
        for name, values in found.items():
            self._values.setdefault(name, []).append(values)

    def values(self, names: Sequence[str]) -> dict[str, Values]:
        """Those of all slices, float64 [N, M], in this order."""
        return {name: np.concatenate(self._values[name]) for name in names}

    def curves(self, measures: Sequence[Measure], methods: Sequence[str]) -> dict[str, Points]:
        """The mean curves over images."""
        found = {}
        for measure in measures:
            if measure.name in self._curves and measure.steps_at():
                means = mean_of_known(np.concatenate(self._curves[measure.name]), axis=0)
                by_method = {m: tuple(float(x) for x in row) for m, row in zip(methods, means, strict=True)}
                found[measure.name] = Points(measure.steps_at(), by_method)
        return found


def columns_of(measures: Sequence[Measure]) -> dict[str, Column]:
    """The columns that measures give, then those of what methods say about themselves."""
    found = {m.name + value.suffix: Column(value.better, value.about) for m in measures for value in m.values()}
    return found | {name: Column(value.better, value.about) for name, value in REPORTED.values()}


def mean_of_known(values: Values, axis: int) -> Values:
    """The mean of what is not NaN; NaN where nothing is known."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
