"""LIME on superpixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastxai import ops, sampling, solve
from fastxai.config import check_choice, check_float, check_int
from fastxai.errors import ArgumentError
from fastxai.explainers.base import Batch, Explainer, every_row, shows_maps
from fastxai.explainers.coalition_task import CoalitionTask, fill_values
from fastxai.models import Scores
from fastxai.segments import Quickshift, Segmenter, as_segmenter
from fastxai.types import Field, Preprocess, Segments


@dataclass(frozen=True)
class Lime(Explainer):
    """LIME: a weighted linear model of the score in which superpixels are hidden.

    beta = argmin sum_r w_r (f(x_r) - b0 - z_r' beta)^2 + alpha |beta|^2 over `samples` random coalitions z_r, the first
    of which keeps everything, w = exp(-d^2 / (2 kernel_width^2)) with d the cosine distance of z_r from all-ones
    (Ribeiro, Singh and Guestrin, "Why Should I Trust You?", KDD 2016, with the constants of the `lime` package).

    segments: a segmenter, its name, or ready label maps. fill: what hidden segments show: "black", "mean" (each its own
    mean colour) or a colour as 0..255 per channel. sampling: "bernoulli" (keyed fair coins) or "lime" (exactly what the
    `lime` package draws for the same seed). explains: the class "probability" or the raw "logit".
    """

    method: ClassVar[str] = "lime"
    samples: int = 1000
    segments: Any = field(default_factory=Quickshift)
    fill: Any = "black"
    kernel_width: float = 0.25
    alpha: float = 1.0
    sampling: str = "bernoulli"
    explains: str = "probability"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("samples", self.samples, 2)
        check_float("kernel_width", self.kernel_width, 0, above=True)
        check_float("alpha", self.alpha, 0, above=True)
        check_choice("sampling", self.sampling, ("bernoulli", "lime"))
        check_choice("explains", self.explains, ("probability", "logit"))
        object.__setattr__(self, "segments", as_segmenter(self.segments))
        object.__setattr__(self, "fill", _checked_fill(self.fill))

    def settle(self, preprocess: Preprocess, ids: Sequence[str]) -> Lime:
        if isinstance(self.fill, tuple) and len(self.fill) != preprocess.channels:
            raise ArgumentError(f"fill must have {preprocess.channels} channels for this model, got {self.fill}")
        return replace(self, segments=self.segments.settle(ids, preprocess.size))

    def segmenters(self) -> tuple[Segmenter, ...]:
        return (self.segments,)

    def row_count(self, targets: int) -> Mapping[str, int]:
        return {"scores": self.samples}

    def fields(self) -> tuple[Field, ...]:
        return (
            Field("maps", ("target", "y", "x"), long_name="weight of the pixel's segment", optional=True),
            Field("weights", ("target", "segment"), long_name="weight per segment"),
            Field("intercept", ("target",), long_name="intercept of the surrogate"),
            Field("score", ("target",), long_name="weighted R^2 of the surrogate"),
            Field("local_pred", ("target",), long_name="surrogate at the whole picture"),
            Field("samples", (), dtype="int32", long_name="model calls"),
        )

    def begin(self, batch: Batch) -> LimeTask:
        return LimeTask(self, batch)

    def rebuild(self, field: str, data: Mapping[str, Tensor], labels: Tensor | None, size: tuple[int, int]) -> Tensor:
        if field != "maps" or labels is None:
            return super().rebuild(field, data, labels, size)
        return ops.paint(data["weights"], labels)

    def coalitions(self, digests: Sequence[str], counts: Tensor, seed: int, samples: int) -> Tensor:
        """The first `samples` coalitions of each image, packed: int32 [B, samples, W], on the device of `counts`."""
        if self.sampling == "lime":
            return sampling.lime_coalitions(seed, counts, samples).to(counts.device)
        keys = sampling.stream_keys(seed, digests, "lime").to(counts.device)
        drawn = sampling.bernoulli_coalitions(keys, counts, *every_row(len(counts), samples))
        return drawn.reshape(len(counts), samples, -1)

    def perturbed(self, pixels: Tensor, labels: Tensor, digest: str, seed: int, count: int) -> Tensor:
        """The first `count` perturbed copies of a picture as the model saw them, the whole picture first, for figures.

        pixels uint8 [C, H, W], labels int32 [H, W] -> uint8 [count, C, H, W].
        """
        segments = Segments(labels[None], labels.max().long().reshape(1) + 1)
        count = min(count, self.samples)
        # The draws of the `lime` package depend on how many are asked for.
        drawn = self.samples if self.sampling == "lime" else count
        words = self.coalitions([digest], segments.counts, seed, drawn)[0, :count]
        channels = pixels.shape[0]
        plain = Preprocess(size=(0, 0), resize=None, mean=(0.0,) * channels, std=(1.0,) * channels)
        fill = fill_values(self.fill, pixels[None], segments, plain, given_inputs=False)
        rows = torch.zeros(count, dtype=torch.int64)
        shown = ops.compose_rows(
            pixels[None], segments.labels, words, rows, fill, mean=plain.mean, std=plain.std, dtype=torch.float32
        )
        return (shown * 255).round().to(torch.uint8).contiguous()


class LimeTask(CoalitionTask):
    """Rows for every coalition, then one weighted ridge for all images and targets."""

    def __init__(self, config: Lime, batch: Batch) -> None:
        segments = batch.segments[config.segments.key]
        coalitions = config.coalitions(batch.digests, segments.counts, batch.seed, config.samples)
        super().__init__(batch, segments, coalitions, config.fill, Scores(config.explains))
        self.config = config

    def finish(self) -> Mapping[str, Tensor]:
        counts = self.segments.counts
        kernel = solve.cosine_kernel(sampling.segments_kept(self.coalitions), counts, self.config.kernel_width)
        fit = solve.weighted_ridge(self.coalitions, kernel, self.values, counts, self.config.alpha)
        shown = shows_maps(self.batch.targets.shape[1])
        return {
            **({"maps": ops.paint(fit.weights, self.segments.labels)} if shown else {}),
            "weights": fit.weights,
            "intercept": fit.intercept,
            "score": fit.score,
            "local_pred": fit.local_pred,
            "samples": torch.full((len(counts),), self.config.samples, dtype=torch.int32),
        }


def _checked_fill(fill: Any) -> Any:
    if fill in ("black", "mean"):
        return fill
    form = 'fill must be "black", "mean" or one number from 0 to 255 per channel'
    if isinstance(fill, str) or not hasattr(fill, "__len__"):
        raise ArgumentError(f"{form}, got {fill!r}")
    colour = tuple(float(value) for value in fill)
    if not all(0 <= value <= 255 for value in colour):
        raise ArgumentError(f"{form}, got {fill!r}")
    return colour
