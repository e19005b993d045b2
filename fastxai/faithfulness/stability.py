"""Stability: does a method that samples say the same with another seed?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from fastxai import masks, ops
from fastxai.config import check_float, check_int
from fastxai.errors import ArgumentError
from fastxai.explainers import EXPLAINERS, Explainer
from fastxai.faithfulness.base import HIGHER, AgainMeasure, Value
from fastxai.faithfulness.correlation import spearman


@dataclass(frozen=True)
class Stability(AgainMeasure):
    """How much the maps of several seeds agree: the mean over pairs of maps, the one there is among them.

    seeds_more: further seeds, each of which costs what explaining cost. kinds: the methods to look at; those that draw
    nothing would only agree with themselves. Two values: Spearman's rank correlation, and the IoU of the masks of the
    top `share` of pixels by rank. Noise has 0 and share / (2 - share).
    """

    method: ClassVar[str] = "stability"
    seeds_more: int = 2
    kinds: tuple[str, ...] = ("lime", "random")
    share: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("seeds_more", self.seeds_more, 1)
        check_float("share", self.share, 0, above=True, high=1)
        kinds = (self.kinds,) if isinstance(self.kinds, str) else tuple(self.kinds)
        for kind in kinds:
            if kind not in EXPLAINERS.names():
                raise ArgumentError(f"kinds must be methods like lime, got {kind!r}")
        object.__setattr__(self, "kinds", kinds)

    def values(self) -> tuple[Value, ...]:
        return (
            Value("", HIGHER, "rank correlation of the maps of different seeds"),
            Value("-top", HIGHER, f"IoU of the top {self.share:.0%} of pixels of different seeds"),
        )

    def takes(self, explainer: Explainer) -> bool:
        return explainer.method in self.kinds

    def seeds(self, seed: int) -> tuple[int, ...]:
        return tuple((seed + more) % 2**32 for more in range(1, self.seeds_more + 1))

    def compare(self, maps: Sequence[NDArray[np.float32]]) -> Mapping[str, float]:
        tops = [masks.top_fraction(torch.from_numpy(one), self.share) for one in maps]
        pairs = list(itertools.combinations(range(len(maps)), 2))
        ranks = [spearman(maps[i], maps[j]) for i, j in pairs]
        overlaps = [float(ops.overlap(tops[i], tops[j])[0]) for i, j in pairs]
        return {"": float(np.mean(ranks)), "-top": float(np.mean(overlaps))}
