"""Deletion, insertion and AOPC: the score while a picture is hidden or shown, the most important parts first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fastxai.config import check_choice, check_float, check_int
from fastxai.explainers import Batch, Block
from fastxai.explainers.base import AtOnce, every_row
from fastxai.explainers.fills import check_channels
from fastxai.faithfulness.base import CURVE, HIGHER, LOWER, Maps, RowMeasure, Value, Values
from fastxai.faithfulness.hiding import BLUR, SIGMA, Units, checked, fill_pictures, hide, optional_segmenter
from fastxai.models import Reading, Scores
from fastxai.segments import Segmenter
from fastxai.transfer import on_device
from fastxai.types import Preprocess


@dataclass(frozen=True)
class Curve(RowMeasure):
    """Base of the measures that follow a score step by step.

    steps: how many; step j stands at j / steps of the whole way, and floor(share * units + 0.5) units are then changed,
    the highest of the map first, ties in raster order. segments: units are its segments, ranked by the mean of the map,
    in place of pixels. fill: what is hidden shows "black", "mean" (each picture's own mean colour), "blur" (the
    picture, blurred by `blur` pixels) or a colour as 0..255 per channel. score: the class "probability" or the raw
    "logit".

    Model calls: steps + 1 forward passes an image, method and target.
    """

    hides: ClassVar[bool] = True  # otherwise the picture begins hidden
    steps: int = 32
    fill: Any = "black"
    blur: float = SIGMA
    segments: Any = None
    score: str = "probability"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("steps", self.steps, 1)
        object.__setattr__(self, "fill", checked(self.fill, self.blur))
        object.__setattr__(self, "segments", optional_segmenter(self.segments))
        check_choice("score", self.score, ("probability", "logit"))

    def settle(self, preprocess: Preprocess, ids: Sequence[str]) -> Curve:
        check_channels(self.fill, preprocess)
        return self if self.segments is None else replace(self, segments=self.segments.settle(ids, preprocess.size))

    def segmenters(self) -> tuple[Segmenter, ...]:
        return () if self.segments is None else (self.segments,)

    def row_count(self, methods: int, targets: int) -> int:
        return methods * targets * (self.steps + 1)

    def whole(self) -> float:
        """The share of the units that the last step has changed."""
        return 1.0

    def steps_at(self) -> tuple[float, ...]:
        return tuple(float(share) for share in np.linspace(0.0, self.whole(), self.steps + 1))

    def begin(self, batch: Batch, maps: Maps) -> CurveTask:
        return CurveTask(self, batch, maps)

    def value(self, curves: Values) -> Values:
        """Scores [..., steps + 1] -> [...]."""
        raise NotImplementedError


@dataclass(frozen=True)
class Deletion(Curve):
    """Deletion: the area under the score while the most important pixels vanish, from the whole picture to none of it.

    (Petsiuk, Das and Saenko, "RISE", BMVC 2018; the curve is the PixelFlipping of Bach et al. 2015.) By the
    trapezoidal rule over shares 0..1.
    """

    method: ClassVar[str] = "deletion"

    def values(self) -> tuple[Value, ...]:
        return (Value("", LOWER, "area under the score while the most important parts are hidden"),)

    def value(self, curves: Values) -> Values:
        return area(curves)


@dataclass(frozen=True)
class Insertion(Curve):
    """Insertion: the area under the score while the most important pixels appear on a blurred picture.

    (Petsiuk, Das and Saenko, "RISE", BMVC 2018.) By the trapezoidal rule over shares 0..1.
    """

    method: ClassVar[str] = "insertion"
    hides: ClassVar[bool] = False
    fill: Any = BLUR

    def values(self) -> tuple[Value, ...]:
        return (Value("", HIGHER, "area under the score while the most important parts are shown"),)

    def value(self, curves: Values) -> Values:
        return area(curves)


@dataclass(frozen=True)
class Aopc(Curve):
    """AOPC: the mean fall of the score over the first steps of deletion, 1 / (L + 1) sum_{l = 0..L} f(x) - f(x_l).

    (Samek et al., "Evaluating the Visualization of What a Deep Neural Network Has Learned", 2017, equation 12.)
    share: of the pixels that are hidden after the last step L = `steps` (there: 100 regions of 9 x 9, 0.16).
    """

    method: ClassVar[str] = "aopc"
    steps: int = 16
    share: float = 0.16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_float("share", self.share, 0, above=True, high=1)

    def values(self) -> tuple[Value, ...]:
        return (Value("", HIGHER, f"mean fall of the score while the first {self.share:.0%} are hidden"),)

    def whole(self) -> float:
        return self.share

    def value(self, curves: Values) -> Values:
        found: Values = (curves[..., :1] - curves).mean(axis=-1)
        return found


def area(curves: Values) -> Values:
    """Area under curves [..., n] over 0..1, by the trapezoidal rule."""
    found: Values = np.trapezoid(curves, dx=1.0 / (curves.shape[-1] - 1), axis=-1)
    return found


class CurveTask(AtOnce):
    """Row (m, k, j) of an image is step j for method m and target k: scores float32 [B, M * K * (steps + 1)]."""

    def __init__(self, config: Curve, batch: Batch, maps: Maps) -> None:
        self.config, self.batch = config, batch
        self.shape = (*maps.shape[:3], config.steps + 1)
        device = batch.inputs.device
        units = Units(batch, config.segments)
        ranks = np.stack([units.ranks(image, each) for image, each in enumerate(maps)])
        self.ranks = on_device(torch.from_numpy(ranks).flatten(0, 2), device)
        shares = np.array(config.steps_at())
        changed = np.floor(np.array(units.counts)[:, None] * shares + 0.5).astype(np.int64)  # [B, steps + 1]
        self.changed = torch.from_numpy(changed)
        self.fill = fill_pictures(config.fill, config.blur, batch)
        self.scores = torch.full((len(batch), config.row_count(*maps.shape[1:3])), float("nan"), device=device)

    def all_rows(self) -> Block:
        image, ordinal = every_row(len(self.batch), self.scores.shape[1])
        target = torch.div(ordinal, self.shape[3], rounding_mode="floor") % self.shape[2]
        targets = self.batch.targets[self._there(image), self._there(target)].unsqueeze(1)
        return Block(image, ordinal, Scores(self.config.score), targets)

    def inputs(self, block: Block) -> Tensor:
        _, methods, targets, points = self.shape
        curve = block.image * (methods * targets) + torch.div(block.ordinal, points, rounding_mode="floor")
        changed = self._there(self.changed[block.image, block.ordinal % points])
        first = self.ranks[self._there(curve)] < changed[:, None, None]
        return hide(self.batch, self.fill, first if self.config.hides else ~first, block.image)

    def fold(self, block: Block, reading: Reading) -> None:
        self.scores[self._there(block.image), self._there(block.ordinal)] = reading.scores[:, 0]

    def finish(self) -> Mapping[str, Tensor]:
        curves = self.scores.double().cpu().numpy().reshape(self.shape)
        return {"": torch.from_numpy(self.config.value(curves)), CURVE: torch.from_numpy(curves)}

    def _there(self, index: Tensor) -> Tensor:
        return on_device(index, self.ranks.device)
