"""Mu-fidelity: do sums of a map foretell falls of the score, for parts of one size?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fastxai.config import check_float
from fastxai.faithfulness.base import HIGHER, Value, Values
from fastxai.faithfulness.correlation import pearson
from fastxai.faithfulness.subsets import Subsets


@dataclass(frozen=True)
class MuFidelity(Subsets):
    """Mu-fidelity: the correlation of sum_{i in S} map_i and f(x) - f(x with S hidden) over random S of one size.

    (Bhatt, Weller and Moura, "Evaluating and Aggregating Feature-based Model Explanations", IJCAI 2020, equation 4;
    Quantus calls it FaithfulnessCorrelation. A grid of 9 x 9 cells, a fifth of which are hidden, is the custom on
    photographs.) share: of the units that S holds.
    """

    method: ClassVar[str] = "mu-fidelity"
    share: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_float("share", self.share, 0, above=True, high=1)

    def values(self) -> tuple[Value, ...]:
        return (Value("", HIGHER, "correlation of sums of the map and falls of the score"),)

    def hidden_shares(self) -> tuple[float, ...]:
        return (self.share,)

    def value(self, sums: Values, falls: Values) -> float:
        return pearson(sums, falls)
