"""The part that GradientSHAP has at any resolution: points on paths, and the convergence delta."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastxai import sampling
from fastxai.explainers.base import Batch, Block, every_row
from fastxai.explainers.baselines import make_baselines
from fastxai.explainers.keyed_gradient_shap import KeyedGradientShap
from fastxai.models import Reading, Scores

if TYPE_CHECKING:
    from fastxai.explainers.gradient_shap import GradientShap


class PathTask:
    """Rows on the paths first; then, for the delta, rows for the end points whose scores nobody has read yet.

    Subclasses name the stages that come first, give their rows in `block_of` and fold them in `fold_path`. `drawn` is
    a block by the numbers that its random draws are keyed with.
    """

    def __init__(self, config: GradientShap, batch: Batch) -> None:
        self.config, self.batch = config, batch
        self.keys = sampling.stream_keys(batch.seed, batch.digests, config.method).to(batch.inputs.device)
        self.baselines = make_baselines(config.baseline, config.blur, batch, self.keys)
        self.stages: list[str] = []
        if config.delta_rows:
            self.stages = ["baselines", "pictures"] if config.stdevs else ["baselines"]
        self.stage = ""
        self.scores: dict[str, list[Tensor]] = {"baselines": [], "pictures": []}

    def rows(self) -> Block | None:
        if not self.stages:
            return None
        self.stage = self.stages.pop(0)
        if self.stage == "baselines":
            return self.baselines.block(self.batch.targets, self.config.samples)
        if self.stage == "pictures":
            return Block(*every_row(len(self.batch), self.config.samples), Scores("logit"))
        return self.block_of(self.stage)

    def inputs(self, block: Block) -> Tensor:
        if self.stage == "pictures":
            return self._pictures(block)
        if self.stage == "baselines":
            return self.baselines.of_block(block)
        pictures, bases, alpha = self.paths(self.drawn(block))
        return self.rows_on(block, pictures, bases, KeyedGradientShap.points(pictures, bases, alpha))

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

    def rows_on(self, block: Block, pictures: Tensor, bases: Tensor, points: Tensor) -> Tensor:
        """What the probe reads at points on the paths from `bases` to `pictures`."""
        return points

    def fold_path(self, block: Block, reading: Reading) -> None:
        """Take in readings at points on the paths; where memory runs out, none are taken."""
        raise NotImplementedError

    @property
    def fixed_ends(self) -> bool:
        """Whether all rows of an image run between the same two points."""
        return self.config.stdevs == 0 and self.baselines.fixed

    def paths(self, drawn: Block) -> tuple[Tensor, Tensor, Tensor]:
        """x~, b and alpha of each row."""
        alpha, index = sampling.path_draws(self.keys, drawn.image, drawn.ordinal, self.baselines.count)
        return self._pictures(drawn), self.baselines.of_rows(drawn, index), alpha

    def _pictures(self, drawn: Block) -> Tensor:
        """x~ of each row: the picture in model input, with its noise."""
        pictures = self.batch.inputs[drawn.image]
        if self.config.stdevs:
            shape = (pictures.shape[1], pictures.shape[2], pictures.shape[3])
            noise = sampling.pixel_normals(self.keys, drawn.image, drawn.ordinal, shape)
            pictures = pictures + self.config.stdevs * noise
        return pictures

    def delta(self, whole: Tensor) -> Tensor:
        """Sums of attributions [B, K] - mean over rows of (F(x~) - F(b)); NaN where it was not asked for."""
        if not self.config.delta_rows:
            return torch.full_like(whole, float("nan"))
        images, samples = len(self.batch), self.config.samples
        image, ordinal = every_row(images, samples)
        _, index = sampling.path_draws(self.keys, image, ordinal, self.baselines.count)
        low = self.baselines.mean_scores(torch.cat(self.scores["baselines"]), index.reshape(images, samples))
        if self.scores["pictures"]:
            high = torch.cat(self.scores["pictures"]).reshape(images, samples, -1).mean(1)
        else:
            high = self.batch.logits.gather(1, self.batch.targets)
        return whole - (high - low)
