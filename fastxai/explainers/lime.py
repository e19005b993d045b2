"""LIME on superpixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastxai import ops, sampling
from fastxai.config import check_choice, check_float
from fastxai.errors import ArgumentError
from fastxai.explainers.base import Batch, Task, every_row
from fastxai.explainers.fills import check_channels, checked_fill, fill_values
from fastxai.explainers.lime_task import LimeTask, SmoothLimeTask
from fastxai.explainers.rounds import AUTO, EXPECTED, check_samples
from fastxai.explainers.superpixels import OnSuperpixels
from fastxai.segments import Quickshift
from fastxai.types import Field, Preprocess, Segments


@dataclass(frozen=True)
class Lime(OnSuperpixels):
    """LIME: a weighted linear model of the score in which superpixels are hidden.

    beta = argmin sum_r w_r (f(x_r) - b0 - z_r' beta)^2 + alpha |beta|^2 over `samples` random coalitions z_r, the first
    of which keeps everything, w = exp(-d^2 / (2 kernel_width^2)) with d the cosine distance of z_r from all-ones
    (Ribeiro, Singh and Guestrin, "Why Should I Trust You?", KDD 2016, with the constants of the `lime` package).

    segments: a segmenter, its name, or ready label maps. fill: what hidden segments show: "black", "mean" (each its own
    mean colour) or a colour as 0..255 per channel. sampling: "bernoulli" (keyed fair coins), "paired" (the same, every
    second row hiding what the row before keeps) or "lime" (exactly what the `lime` package draws for the same seed).
    explains: the class "probability" or the raw "logit".

    distance: d between "coalitions", or between "pictures": the cosine distance of the perturbed model input from the
    whole one, as in `captum.attr.Lime` (which has `kernel_width` 1, a lasso with `alpha` 0.01, and logits).

    surrogate: "linear" is the fit above; "lasso" has |beta|_1, and 1 / (2 n) before the sum, its weights scaled to sum
    to n, which leaves few segments (needs scikit-learn); "smooth" first fits a Gaussian process to the rows (where it
    is likelier, to logits of their probabilities) and then reports the linear fit to *that*, on all 2^S coalitions or
    32,768 of them (so `alpha`, which is for few rows, does not count): the same coefficients from fewer model calls,
    with standard errors in `stderr`. samples="auto", with "smooth": rows are added until the error that they foretell
    for the coefficients of every target, relative to their norm, is at most `tolerance`, or there are `most`.
    """

    method: ClassVar[str] = "lime"
    samples: int | str = 1000
    segments: Any = field(default_factory=Quickshift)
    fill: Any = "black"
    kernel_width: float = 0.25
    alpha: float = 1.0
    sampling: str = "bernoulli"
    explains: str = "probability"
    surrogate: str = "linear"
    tolerance: float = 0.15
    most: int = 5000
    distance: str = "coalitions"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_samples(self.samples, self.tolerance, self.most, 2)
        check_float("kernel_width", self.kernel_width, 0, above=True)
        check_float("alpha", self.alpha, 0, above=True)
        check_choice("sampling", self.sampling, ("bernoulli", "paired", "lime"))
        check_choice("surrogate", self.surrogate, ("linear", "lasso", "smooth"))
        check_choice("distance", self.distance, ("coalitions", "pictures"))
        if self.distance == "pictures" and self.surrogate == "smooth":
            raise ArgumentError('distance must be "coalitions" where surrogate is "smooth", got "pictures"')
        if self.samples == AUTO and (self.surrogate != "smooth" or self.sampling == "lime"):
            raise ArgumentError(
                'samples must be a number unless surrogate is "smooth" and sampling is keyed, '
                f"got {self.samples!r} with {self.surrogate!r} and {self.sampling!r}"
            )
        check_choice("explains", self.explains, ("probability", "logit"))
        object.__setattr__(self, "fill", checked_fill(self.fill))

    def settle(self, preprocess: Preprocess, ids: Sequence[str]) -> Lime:
        check_channels(self.fill, preprocess)
        return super().settle(preprocess, ids)

    def row_count(self, targets: int) -> Mapping[str, int]:
        return {"scores": EXPECTED if isinstance(self.samples, str) else self.samples}

    def fields(self) -> tuple[Field, ...]:
        smooth = (Field("stderr", ("target", "segment"), long_name="standard error of the weight"),)
        return (
            Field("maps", ("target", "y", "x"), long_name="weight of the pixel's segment", optional=True),
            Field("weights", ("target", "segment"), long_name="weight per segment"),
            *(smooth if self.surrogate == "smooth" else ()),
            Field("intercept", ("target",), long_name="intercept of the surrogate"),
            Field("score", ("target",), long_name="weighted R^2 of the surrogate"),
            Field("local_pred", ("target",), long_name="surrogate at the whole picture"),
            Field("samples", (), dtype="int32", long_name="model calls"),
        )

    def begin(self, batch: Batch) -> Task:
        return SmoothLimeTask(self, batch) if self.surrogate == "smooth" else LimeTask(self, batch)

    def coalitions(self, digests: Sequence[str], counts: Tensor, seed: int, samples: int) -> Tensor:
        """The first `samples` coalitions of each image, packed: int32 [B, samples, W], on the device of `counts`."""
        if self.sampling == "lime":
            return sampling.lime_coalitions(seed, counts, samples).to(counts.device)
        keys = sampling.stream_keys(seed, digests, "lime").to(counts.device)
        draw = sampling.paired_coalitions if self.sampling == "paired" else sampling.bernoulli_coalitions
        drawn = draw(keys, counts, *every_row(len(counts), samples))
        return drawn.reshape(len(counts), samples, -1)

    def perturbed(self, pixels: Tensor, labels: Tensor, digest: str, seed: int, count: int) -> Tensor:
        """The first `count` perturbed copies of a picture as the model saw them, the whole picture first, for figures.

        pixels uint8 [C, H, W], labels int32 [H, W] -> uint8 [count, C, H, W].
        """
        segments = Segments(labels[None], labels.max().long().reshape(1) + 1)
        count = count if isinstance(self.samples, str) else min(count, self.samples)
        # The draws of the `lime` package depend on how many are asked for.
        drawn = self.samples if isinstance(self.samples, int) and self.sampling == "lime" else count
        words = self.coalitions([digest], segments.counts, seed, drawn)[0, :count]
        channels = pixels.shape[0]
        plain = Preprocess(size=(0, 0), resize=None, mean=(0.0,) * channels, std=(1.0,) * channels)
        fill = fill_values(self.fill, pixels[None], segments, plain, given_inputs=False)
        rows = torch.zeros(count, dtype=torch.int64)
        shown = ops.compose_rows(
            pixels[None], segments.labels, words, rows, fill, mean=plain.mean, std=plain.std, dtype=torch.float32
        )
        return (shown * 255).round().to(torch.uint8).contiguous()
