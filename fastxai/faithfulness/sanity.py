"""The sanity check: does a map change when the model forgets what it has learnt?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fastxai.config import check_choice, check_int
from fastxai.faithfulness.base import NEARER_ZERO, AgainMeasure, Value
from fastxai.faithfulness.correlation import spearman
from fastxai.models import Model, randomised

_WINDOW = 7  # pixels of the SSIM's window


@dataclass(frozen=True)
class Sanity(AgainMeasure):
    """The similarity of the maps of the trained model and of one with randomised weights: near 0 is good.

    (Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018.) layers: "all" at once, or "cascade" from the
    scores down to the picture, in `stages` steps of as many layers each, over which the mean is taken. What randomised
    means is said at `fastxai.models.randomised`.

    Two values: Spearman's rank correlation of the signed maps, and their structural similarity (SSIM), each map
    divided by its largest absolute value. A map that the other model turns round is no better than one that it leaves
    alone: distances from 0 are compared. The random method asks no model, so both are 1 for it.
    """

    method: ClassVar[str] = "sanity"
    stages_of: ClassVar[tuple[str, ...]] = ("all", "cascade")
    layers: str = "all"
    stages: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("layers", self.layers, self.stages_of)
        check_int("stages", self.stages, 1)

    def values(self) -> tuple[Value, ...]:
        return (
            Value(
                "-spearman",
                NEARER_ZERO,
                "rank correlation with the maps of a model of randomised weights, compared by distance from 0",
            ),
            Value(
                "-ssim",
                NEARER_ZERO,
                "structural similarity to the maps of a model of randomised weights, compared by distance from 0",
            ),
        )

    def model_count(self) -> int:
        return self.stages if self.layers == "cascade" else 1

    def steps_at(self) -> tuple[float, ...]:
        count = self.model_count()
        return tuple(stage / count for stage in range(1, count + 1)) if count > 1 else ()

    def models(self, model: Model, seed: int) -> Iterator[Model]:
        count = self.model_count()
        for stage in range(1, count + 1):
            yield randomised(model, stage / count, seed)

    def compare(self, maps: Sequence[NDArray[np.float32]]) -> Mapping[str, float]:
        trained, other = maps
        return {"-spearman": spearman(trained, other), "-ssim": ssim(trained, other)}


def ssim(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Structural similarity of two maps [H, W], each divided by its largest absolute value; NaN where one is zero."""
    from skimage.metrics import structural_similarity

    sizes = [float(np.abs(side).max()) for side in (a, b)]
    if not all(np.isfinite(sizes)) or min(sizes) == 0.0:
        return float("nan")
    left, right = (side.astype(np.float64) / size for side, size in zip((a, b), sizes, strict=True))
    short = min(a.shape)
    window = min(_WINDOW, short - (short + 1) % 2)
    return float(structural_similarity(left, right, win_size=window, data_range=2.0))
