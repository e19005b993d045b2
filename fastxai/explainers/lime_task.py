"""LIME's rows, and what becomes of them: a ridge, a lasso, or the ridge that a stand-in for the game has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastxai import ops, sampling, solve
from fastxai.explainers.base import Batch
from fastxai.explainers.coalition_task import CoalitionTask
from fastxai.explainers.fills import hidden_inputs
from fastxai.explainers.smooth_task import SmoothTask
from fastxai.explainers.superpixels import painted

if TYPE_CHECKING:
    from fastxai.explainers.lime import Lime


class LimeTask(CoalitionTask):
    """A fixed number of rows, then one weighted ridge for all images and targets, or a lasso for each."""

    def __init__(self, config: Lime, batch: Batch) -> None:
        super().__init__(config, batch)
        self.config = config

    def draw(self, images: Sequence[int], samples: int) -> Tensor:
        return draw(self.config, self.batch, self.segments.counts, images, samples)

    def finish(self) -> Mapping[str, Tensor]:
        kernel = self.by_pictures() if self.config.distance == "pictures" else self.by_coalitions()
        solver = solve.weighted_lasso if self.config.surrogate == "lasso" else solve.weighted_ridge
        return found(self, solver(self.coalitions, kernel, self.values, self.segments.counts, self.config.alpha))

    def by_coalitions(self) -> Tensor:
        """Weights of rows, float64 [B, n], by how much of the coalition is kept."""
        kept = sampling.segments_kept(self.coalitions)
        return solve.cosine_kernel(kept, self.segments.counts, self.config.kernel_width)

    def by_pictures(self) -> Tensor:
        """By how much of the picture is left; an image at a time, so that nothing depends on the batch."""
        hidden = hidden_inputs(self.fill, self.batch, self.segments)
        weights = []
        for image, count in enumerate(self.segments.counts.tolist()):
            one = slice(image, image + 1)
            mask = self.segments.labels[one, None].long().expand_as(hidden[one])
            moments = solve.SegmentMoments.of(self.batch.inputs[one], hidden[one], mask, count)
            kept = ops.unpack(self.coalitions[one], count)
            weights.append(solve.image_kernel(kept, moments, self.config.kernel_width))
        return torch.cat(weights)


class SmoothLimeTask(SmoothTask):
    """Rows as many as it takes, then the coefficients on all coalitions of the stand-in for each image's game."""

    def __init__(self, config: Lime, batch: Batch) -> None:
        super().__init__(config, batch)
        self.config = config

    def functional(self, segments: int) -> solve.LimeCoefficients:
        return solve.LimeCoefficients(segments, self.config.kernel_width, self.values.device)

    def error(self, report: solve.Report) -> float:
        size = report.weights.norm(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
        return float((report.stderr.norm(dim=1) / size).max())

    def draw(self, images: Sequence[int], samples: int) -> Tensor:
        return draw(self.config, self.batch, self.segments.counts, images, samples)

    def finish(self) -> Mapping[str, Tensor]:
        weights, stderr, mean = self.gathered()
        counts = self.segments.counts
        share = torch.tensor([float(self.functional(count).mean) for count in counts.tolist()], device=mean.device)
        intercept = mean - share[:, None] * weights.nansum(-1)
        fit = solve.Ridge(weights, intercept, self._score(weights, intercept), intercept + weights.nansum(-1))
        return found(self, fit) | {"stderr": stderr}

    def _score(self, weights: Tensor, intercept: Tensor) -> Tensor:
        """Weighted R^2 of the linear fit on the rows that the model was read on."""
        counts = self.segments.counts
        kernel = solve.cosine_kernel(sampling.segments_kept(self.coalitions), counts, self.config.kernel_width)
        scores = torch.full_like(intercept, float("nan"))
        for image, have in enumerate(self.have):
            count, kernel_b = int(counts[image]), kernel[image, :have, None]
            kept = ops.unpack(self.coalitions[image, :have], count).double()
            values = self.values[image, :have].double()
            residual = values - intercept[image].double() - kept @ weights[image, :, :count].double().T
            spread = values - (kernel_b * values).sum(0) / kernel_b.sum()
            variance = (kernel_b * spread**2).sum(0)
            scores[image] = torch.where(variance > 0, 1 - (kernel_b * residual**2).sum(0) / variance, 1.0)
        return scores


def draw(config: Lime, batch: Batch, counts: Tensor, images: Sequence[int], samples: int) -> Tensor:
    """The first coalitions of some images of a batch."""
    places = torch.tensor(list(images), device=counts.device)
    return config.coalitions([batch.digests[i] for i in images], counts[places], batch.seed, samples)


def found(task: CoalitionTask, fit: solve.Ridge) -> dict[str, Tensor]:
    """LIME's fields."""
    return {
        **painted(fit.weights, task.segments.labels),
        "weights": fit.weights,
        "intercept": fit.intercept,
        "score": fit.score,
        "local_pred": fit.local_pred,
        "samples": torch.tensor(task.have, dtype=torch.int32),
    }
