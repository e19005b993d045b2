"""The part that methods on paths share, at any resolution: points from baselines to pictures, and the delta."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastxai import sampling
from fastxai.explainers.base import Batch, Block, every_row
from fastxai.explainers.baselines import make_baselines
from fastxai.explainers.keyed_gradient_shap import KeyedGradientShap
from fastxai.explainers.pixel_results import attribution_results, map_sums
from fastxai.models import InputGradients, Reading, Scores

if TYPE_CHECKING:
    from fastxai.explainers.gradient_shap import GradientShap
    from fastxai.explainers.integrated_gradients import IntegratedGradients


class PathTask:
    """Rows on the paths first; then, for the delta, rows for the end points whose scores nobody has read yet.

    samples: rows an image; stdevs: of the noise on the pictures. Subclasses name the stages that come first, give
    their rows in `block_of` and fold them in `fold_path`. `drawn` is a block by the numbers that its random draws are
    keyed with.
    """

    def __init__(
        self, config: GradientShap | IntegratedGradients, batch: Batch, samples: int, stdevs: float = 0.0
    ) -> None:
        self.batch, self.samples, self.stdevs = batch, samples, stdevs
        self.delta_rows = config.delta_rows
        self.keys = sampling.stream_keys(batch.seed, batch.digests, config.method).to(batch.inputs.device)
        self.baselines = make_baselines(config.baseline, config.blur, batch, self.keys)
        self.stages: list[str] = []
        if self.delta_rows:
            self.stages = ["baselines", "pictures"] if stdevs else ["baselines"]
        self.stage = ""
        self.scores: dict[str, list[Tensor]] = {"baselines": [], "pictures": []}

    def rows(self) -> Block | None:
        if not self.stages:
            return None
        self.stage = self.stages.pop(0)
        if self.stage == "baselines":
            return self.baselines.block(self.batch.targets, self.samples)
        if self.stage == "pictures":
            return Block(*every_row(len(self.batch), self.samples), Scores("logit"))
        return self.block_of(self.stage)

    def inputs(self, block: Block) -> Tensor:
        if self.stage == "pictures":
            return self._pictures(block)
        if self.stage == "baselines":
            return self.baselines.of_block(block)
        pictures, bases, alpha = self.paths(self.drawn(block))
        return self.rows_on(block, pictures, bases, self.points(pictures, bases, alpha))

    def fold(self, block: Block, reading: Reading) -> None:
        if self.stage in self.scores:
            self.scores[self.stage].append(reading.scores)
        else:
            self.fold_path(block, reading)

    def finish(self) -> Mapping[str, Tensor]:
        raise NotImplementedError

    def block_of(self, stage: str) -> Block:
        """All rows of a stage on the paths."""
        raise NotImplementedError

    def drawn(self, block: Block) -> Block:
        """The rows of a block by sample."""
        return block

    def draws(self, image: Tensor, ordinal: Tensor) -> tuple[Tensor, Tensor]:
        """Where on its path each row is, alpha float32 [R], and from which baseline the path comes, int64 [R]."""
        return sampling.path_draws(self.keys, image, ordinal, self.baselines.count)

    def points(self, pictures: Tensor, bases: Tensor, alpha: Tensor) -> Tensor:
        """Where gradients are read: [R, C, H, W]."""
        return KeyedGradientShap.points(pictures, bases, alpha)

    def rows_on(self, block: Block, pictures: Tensor, bases: Tensor, points: Tensor) -> Tensor:
        """What the probe reads at points on the paths from `bases` to `pictures`."""
        return points

    def fold_path(self, block: Block, reading: Reading) -> None:
        """Take in readings at points on the paths; where memory runs out, none are taken."""
        raise NotImplementedError

    @property
    def fixed_ends(self) -> bool:
        """Whether all rows of an image run between the same two points."""
        return self.stdevs == 0 and self.baselines.fixed

    def paths(self, drawn: Block) -> tuple[Tensor, Tensor, Tensor]:
        """x~, b and alpha of each row."""
        alpha, index = self.draws(drawn.image, drawn.ordinal)
        return self._pictures(drawn), self.baselines.of_rows(drawn, index), alpha

    def _pictures(self, drawn: Block) -> Tensor:
        """x~ of each row: the picture in model input, with its noise."""
        pictures = self.batch.inputs[drawn.image]
        if self.stdevs:
            shape = (pictures.shape[1], pictures.shape[2], pictures.shape[3])
            noise = sampling.pixel_normals(self.keys, drawn.image, drawn.ordinal, shape)
            pictures = pictures + self.stdevs * noise
        return pictures

    def along_fixed_paths(self, gradients: Tensor) -> Tensor:
        """(x - b) * gradients where all rows of an image have the same ends: [B, K, C, H, W]."""
        pictures, bases, _ = self.paths(Block(*every_row(len(self.batch), 1), InputGradients()))
        return KeyedGradientShap.contributions(pictures, bases, gradients)

    def results(self, attributions: Tensor, keep: bool) -> dict[str, Tensor]:
        """Attributions [B, K, C, H, W] -> maps, the convergence delta, and where they are kept, themselves."""
        found = attribution_results(attributions, keep)
        return {**found, "delta": self.delta(map_sums(found["maps"]))}

    def delta(self, whole: Tensor) -> Tensor:
        """Sums of attributions [B, K] - mean over rows of (F(x~) - F(b)); NaN where it was not asked for."""
        if not self.delta_rows:
            return torch.full_like(whole, float("nan"))
        images, samples = len(self.batch), self.samples
        image, ordinal = every_row(images, samples)
        _, index = self.draws(image, ordinal)
        low = self.baselines.mean_scores(torch.cat(self.scores["baselines"]), index.reshape(images, samples))
        if self.scores["pictures"]:
            high = torch.cat(self.scores["pictures"]).reshape(images, samples, -1).mean(1)
        else:
            high = self.batch.logits.gather(1, self.batch.targets)
        return whole - (high - low)
