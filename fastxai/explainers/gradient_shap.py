"""GradientSHAP: Captum's class and formula, the engine's gradients, keyed draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastxai import ops, sampling
from fastxai.config import check_float, check_int
from fastxai.errors import ArgumentError
from fastxai.explainers.base import Batch, Block, Explainer, every_row
from fastxai.explainers.baselines import Baselines, as_baseline, make_baselines
from fastxai.explainers.keyed_gradient_shap import KeyedGradientShap
from fastxai.models import InputGradients, Reading, Scores
from fastxai.types import Field, Preprocess


@dataclass(frozen=True)
class GradientShap(Explainer):
    """GradientSHAP: mean over `samples` of (x~ - b) * d score / dx at alpha x~ + (1 - alpha) b, on raw scores.

    alpha is uniform in [0, 1), b drawn from the baselines, x~ = x + N(0, stdevs^2) in model-input units: the formula
    of `captum.attr.GradientShap`, draws keyed by (seed, image, row). All targets share one forward pass a row.

    baseline: "black", "mean" (each picture's own mean colour), "blur" (the picture, blurred by `blur` pixels),
    "random" (uniform noise, new in every row) or a data set: uint8 pictures [M, C, H, W], paths, or a folder's name.
    delta: the convergence delta sum(attributions) - (F(x) - F(b)), averaged over rows; "auto" gives it where it costs
    at most one forward pass an image and NaN elsewhere, True always, False never. attributions: keep [K, C, H, W] too.
    """

    method: ClassVar[str] = "gradient-shap"
    samples: int = 20
    baseline: Any = "black"
    stdevs: float = 0.0
    blur: float = 10.0
    delta: bool | str = "auto"
    attributions: bool = False

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

    def settle(self, preprocess: Preprocess, ids: Sequence[str]) -> GradientShap:
        if isinstance(self.baseline, Baselines):
            return replace(self, baseline=self.baseline.load(preprocess))
        return self

    def row_count(self, targets: int) -> Mapping[str, int]:
        return {"gradients": self.samples, "scores": 1 if self.delta_rows else 0}

    def fields(self) -> tuple[Field, ...]:
        found = [
            Field("maps", ("target", "y", "x"), long_name="attribution, summed over channels"),
            Field("delta", ("target",), long_name="convergence delta"),
        ]
        if self.attributions:
            found.append(Field("attributions", ("target", "channel", "y", "x"), long_name="attribution"))
        return tuple(found)

    def begin(self, batch: Batch) -> GradientShapTask:
        return GradientShapTask(self, batch)

    @property
    def delta_rows(self) -> bool:
        """Whether end points are read for the convergence delta."""
        cheap = self.stdevs == 0 and not isinstance(self.baseline, Baselines) and self.baseline != "random"
        return self.delta is True or (self.delta == "auto" and cheap)


class GradientShapTask:
    """Gradient rows first; then, for the delta, rows for the end points whose scores nobody has read yet."""

    def __init__(self, config: GradientShap, batch: Batch) -> None:
        self.config, self.batch = config, batch
        self.keys = sampling.stream_keys(batch.seed, batch.digests, config.method).to(batch.inputs.device)
        self.baselines = make_baselines(config.baseline, config.blur, batch, self.keys)
        self.sums = torch.zeros(*batch.targets.shape, *batch.inputs.shape[1:], device=batch.inputs.device)
        self.stages = ["gradients"]
        if config.delta_rows:
            self.stages += ["baselines", "pictures"] if config.stdevs else ["baselines"]
        self.stage = ""
        self.scores: dict[str, list[Tensor]] = {"baselines": [], "pictures": []}

    def rows(self) -> Block | None:
        if not self.stages:
            return None
        self.stage = self.stages.pop(0)
        if self.stage == "baselines":
            return self.baselines.block(self.batch.targets, self.config.samples)
        probe = InputGradients() if self.stage == "gradients" else Scores("logit")
        return Block(*every_row(len(self.batch), self.config.samples), probe)

    def inputs(self, block: Block) -> Tensor:
        if self.stage == "pictures":
            return self._pictures(block)
        if self.stage == "baselines":
            return self.baselines.of_block(block)
        alpha, index = self._draws(block)
        return KeyedGradientShap.points(self._pictures(block), self.baselines.of_rows(block, index), alpha)

    def fold(self, block: Block, reading: Reading) -> None:
        if self.stage != "gradients":
            self.scores[self.stage].append(reading.scores)
            return
        assert reading.gradients is not None
        _, index = self._draws(block)
        parts = KeyedGradientShap.contributions(
            self._pictures(block), self.baselines.of_rows(block, index), reading.gradients
        )
        ops.add_rows_(self.sums, block.image, parts)

    def finish(self) -> Mapping[str, Tensor]:
        attributions = self.sums / self.config.samples
        maps = attributions.sum(dim=2)
        found = {"maps": maps, "delta": self._delta(maps)}
        if self.config.attributions:
            found["attributions"] = attributions
        return found

    def _pictures(self, block: Block) -> Tensor:
        """x~ of each row: the picture in model input, with its noise."""
        pictures = self.batch.inputs[block.image]
        if self.config.stdevs:
            shape = (pictures.shape[1], pictures.shape[2], pictures.shape[3])
            noise = sampling.pixel_normals(self.keys, block.image, block.ordinal, shape)
            pictures = pictures + self.config.stdevs * noise
        return pictures

    def _draws(self, block: Block) -> tuple[Tensor, Tensor]:
        return sampling.path_draws(self.keys, block.image, block.ordinal, self.baselines.count)

    def _delta(self, maps: Tensor) -> Tensor:
        """sum(attributions) - mean over rows of (F(x~) - F(b)): float32 [B, K], NaN where it was not asked for."""
        if not self.config.delta_rows:
            return torch.full(maps.shape[:2], float("nan"), device=maps.device)
        images, samples = len(self.batch), self.config.samples
        image, ordinal = every_row(images, samples)
        _, index = sampling.path_draws(self.keys, image, ordinal, self.baselines.count)
        low = self.baselines.mean_scores(torch.cat(self.scores["baselines"]), index.reshape(images, samples))
        if self.scores["pictures"]:
            high = torch.cat(self.scores["pictures"]).reshape(images, samples, -1).mean(1)
        else:
            high = self.batch.logits.gather(1, self.batch.targets)
        # One sum a map: torch adds up one lone map in another order than the maps of a batch.
        whole = torch.stack([single.sum() for single in maps.flatten(0, 1)]).reshape(maps.shape[:2])
        return whole - (high - low)
