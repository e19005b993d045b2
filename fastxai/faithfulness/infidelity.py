"""Infidelity: how far sums of a map are from falls of the score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fastxai.config import check_float
from fastxai.errors import ArgumentTypeError
from fastxai.faithfulness.base import LOWER, Value, Values
from fastxai.faithfulness.subsets import Subsets


@dataclass(frozen=True)
class Infidelity(Subsets):
    """Infidelity: the mean over random S of (beta sum_{i in S} map_i - (f(x) - f(x with S hidden)))^2.

    (Yeh et al., "On the (In)fidelity and Sensitivity of Explanations", NeurIPS 2019, definition 2.1, with I the
    removal of S: a map attributes to what is removed, so that I' Phi is its sum over S. `captum.metrics.infidelity`.)
    normalize: beta is the factor with the least error, as Yeh et al. scale maps that have no unit (CAM methods);
    otherwise 1, which only maps in units of the score stand. share: of the units that S holds.
    """

    method: ClassVar[str] = "infidelity"
    share: float = 0.2
    normalize: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_float("share", self.share, 0, above=True, high=1)
        if not isinstance(self.normalize, bool):
            raise ArgumentTypeError(f"normalize must be True or False, got {self.normalize!r}")

    def values(self) -> tuple[Value, ...]:
        return (Value("", LOWER, "mean squared distance of sums of the map and falls of the score"),)

    def hidden_shares(self) -> tuple[float, ...]:
        return (self.share,)

    def value(self, sums: Values, falls: Values) -> float:
        beta = 1.0
        if self.normalize:
            size = float(sums @ sums)
            beta = float(sums @ falls) / size if size > 0 else 0.0  # a map of zeros says nothing, at any scale
        return float(np.mean((beta * sums - falls) ** 2))
