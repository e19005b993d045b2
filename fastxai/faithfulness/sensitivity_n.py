"""Sensitivity-n: do sums of a map foretell falls of the score, for parts of any size?"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from fastxai.config import check_float
from fastxai.errors import ArgumentError
from fastxai.faithfulness.base import HIGHER, Value, Values
from fastxai.faithfulness.correlation import pearson
from fastxai.faithfulness.subsets import Subsets
from fastxai.segments import Grid


@dataclass(frozen=True)
class SensitivityN(Subsets):
    """Sensitivity-n: the correlation of sum_{i in S} map_i and f(x) - f(x with S hidden) over random S of n units,
    averaged over sizes n.

    (Ancona, Ceolini, Oztireli and Gross, "Towards better understanding of gradient-based attribution methods for Deep
    Neural Networks", ICLR 2018, section 4: Pearson's, 100 subsets of each size, up to 80% of the units.) sizes: shares
    of the units.
    """

    method: ClassVar[str] = "sensitivity-n"
    samples: int = 50
    segments: Any = field(default_factory=partial(Grid, 14, 14))
    sizes: tuple[float, ...] = (0.02, 0.1, 0.4, 0.8)

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = self.sizes if isinstance(self.sizes, (tuple, list)) else (self.sizes,)
        if not sizes:
            raise ArgumentError("sizes must hold at least one share, got none")
        checked = tuple(check_float("sizes", size, 0, above=True, high=1) for size in sizes)
        object.__setattr__(self, "sizes", checked)

    def values(self) -> tuple[Value, ...]:
        return (Value("", HIGHER, "correlation of sums of the map and falls of the score, mean over sizes"),)

    def hidden_shares(self) -> tuple[float, ...]:
        return self.sizes

    def steps_at(self) -> tuple[float, ...]:
        return self.sizes

    def value(self, sums: Values, falls: Values) -> float:
        return pearson(sums, falls)
