"""GradientSHAP: Captum's class and formula, the engine's gradients, keyed draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastxai import ops
from fastxai.config import check_choice, check_float, check_int
from fastxai.errors import ArgumentError
from fastxai.explainers.base import Batch, Block, every_row
from fastxai.explainers.baselines import Baselines, as_baseline
from fastxai.explainers.keyed_gradient_shap import KeyedGradientShap
from fastxai.explainers.path_task import PathTask
from fastxai.explainers.pixel_results import attribution_fields, check_pixel_targets
from fastxai.explainers.segment_shap_task import DIRECTIONS, TARGETS, SegmentShapTask, products_pay
from fastxai.explainers.superpixels import OnSuperpixels
from fastxai.models import InputGradients, Reading
from fastxai.types import Field, Preprocess

_SEGMENTS = 50  # of a picture, for forecasts: nobody knows before it is there


@dataclass(frozen=True)
class GradientShap(OnSuperpixels):
    """GradientSHAP: mean over `samples` of (x~ - b) * d score / dx at alpha x~ + (1 - alpha) b, on raw scores.

    alpha is uniform in [0, 1), b drawn from the baselines, x~ = x + N(0, stdevs^2) in model-input units: the formula
    of `captum.attr.GradientShap`, draws keyed by (seed, image, row). All targets share one forward pass a row.

    baseline: "black", "mean" (each picture's own mean colour), "blur" (the picture, blurred by `blur` pixels),
    "random" (uniform noise, new in every row) or a data set: uint8 pictures [M, C, H, W], paths, or a folder's name.
    delta: the convergence delta sum(attributions) - (F(x) - F(b)), averaged over rows; "auto" gives it where it costs
    at most one forward pass an image and NaN elsewhere, True always, False never. attributions: keep [K, C, H, W] too.

    segments: a segmenter, its name, or ready label maps, for attributions summed over superpixels. They come as
    `weights` [K, S], and for all classes of a model at little more cost than for many. mode: how they are computed,
    which changes results by rounding only: "backward", a backward pass a class; "forward", a forward-mode product a
    segment, which holds for all classes; "auto", for each picture what costs less by its number of segments.
    """

    method: ClassVar[str] = "gradient-shap"
    samples: int = 20
    baseline: Any = "black"
    stdevs: float = 0.0
    blur: float = 10.0
    delta: bool | str = "auto"
    attributions: bool = False
    segments: Any = None
    mode: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("samples", self.samples, 1)
        check_float("stdevs", self.stdevs, 0)
        check_float("blur", self.blur, 0, above=True)
        object.__setattr__(self, "baseline", as_baseline(self.baseline))
        if self.delta not in (True, False, "auto"):
            raise ArgumentError(f'delta must be "auto", True or False, got {self.delta!r}')
        if not isinstance(self.attributions, bool):
            raise ArgumentError(f"attributions must be True or False, got {self.attributions!r}")
        check_choice("mode", self.mode, ("auto", "forward", "backward"))
        if self.segments is not None and self.attributions:
            raise ArgumentError("attributions must be False with segments, got True")
        if self.segments is None and self.mode == "forward":
            raise ArgumentError("mode must be auto or backward without segments, got 'forward'")

    def settle(self, preprocess: Preprocess, ids: Sequence[str]) -> GradientShap:
        settled = super().settle(preprocess, ids)
        if isinstance(self.baseline, Baselines):
            settled = replace(settled, baseline=self.baseline.load(preprocess))
        return settled

    def check_targets(self, targets: int) -> None:
        if self.segments is None:
            check_pixel_targets(self.name, targets, instead=": set its segments")

    def row_count(self, targets: int) -> Mapping[str, int]:
        scores = 1 if self.delta_rows else 0
        if self.segments is None:
            return {"gradients": self.samples, "scores": scores}
        if self.uses_products(_SEGMENTS, targets):
            return {"directions": self.samples * -(-_SEGMENTS // DIRECTIONS), "scores": scores}
        return {"gradients": self.samples * -(-targets // TARGETS), "scores": scores}

    def fields(self) -> tuple[Field, ...]:
        if self.segments is not None:
            return (
                Field("maps", ("target", "y", "x"), long_name="attribution of the pixel's segment", optional=True),
                Field("weights", ("target", "segment"), long_name="attribution, summed over the segment"),
                Field("delta", ("target",), long_name="convergence delta"),
            )
        return attribution_fields(self.attributions, delta=True)

    def begin(self, batch: Batch) -> PathTask:
        return GradientShapTask(self, batch) if self.segments is None else SegmentShapTask(self, batch)

    def uses_products(self, segments: int, targets: int) -> bool:
        """Whether a picture with so many segments is read by forward-mode products."""
        return self.mode == "forward" or (self.mode == "auto" and products_pay(segments, targets))

    @property
    def delta_rows(self) -> bool:
        """Whether end points are read for the convergence delta."""
        cheap = self.stdevs == 0 and not isinstance(self.baseline, Baselines) and self.baseline != "random"
        return self.delta is True or (self.delta == "auto" and cheap)


class GradientShapTask(PathTask):
    """Sums of attributions at every pixel."""

    def __init__(self, config: GradientShap, batch: Batch) -> None:
        super().__init__(config, batch, config.samples, config.stdevs)
        self.keep = config.attributions
        self.sums = torch.zeros(*batch.targets.shape, *batch.inputs.shape[1:], device=batch.inputs.device)
        self.stages = ["gradients", *self.stages]

    def block_of(self, stage: str) -> Block:
        return Block(*every_row(len(self.batch), self.samples), InputGradients())

    def fold_path(self, block: Block, reading: Reading) -> None:
        assert reading.gradients is not None
        parts = reading.gradients
        if not self.fixed_ends:  # else x~ - b stands before the sum over rows
            pictures, bases, _ = self.paths(block)
            parts = KeyedGradientShap.contributions(pictures, bases, parts)
        ops.add_rows_(self.sums, block.image, parts)

    def finish(self) -> Mapping[str, Tensor]:
        attributions = self.sums / self.samples
        return self.results(self.along_fixed_paths(attributions) if self.fixed_ends else attributions, self.keep)
