"""KernelSHAP on superpixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastxai import sampling, solve
from fastxai.config import check_choice
from fastxai.errors import ArgumentError
from fastxai.explainers.base import Batch, Task
from fastxai.explainers.coalition_task import CoalitionTask
from fastxai.explainers.fills import check_channels, checked_fill
from fastxai.explainers.rounds import AUTO, EXPECTED, check_samples
from fastxai.explainers.smooth_task import SmoothTask
from fastxai.explainers.superpixels import OnSuperpixels, painted
from fastxai.segments import Quickshift
from fastxai.types import Field, Preprocess

_LEAST = 4  # all segments, none, and a pair


@dataclass(frozen=True)
class KernelShap(OnSuperpixels):
    """KernelSHAP: Shapley values of the game v(z) = score with the segments in z kept, from `samples` coalitions.

    (Lundberg and Lee, "A Unified Approach to Interpreting Model Predictions", 2017; constraint as in Covert and Lee,
    "Improving KernelSHAP", 2021; sizes as in Musco and Witter, "Provably Accurate Shapley Value Estimation via Leverage
    Score Sampling", 2024.) The values add up to v(all) - v(none), to rounding; `base` is v(none).

    Rows are all segments, none, and pairs z, 1 - z of evenly spread sizes, small sizes without repeats; never more than
    the 2^S coalitions that there are. All targets come from the same rows. surrogate: "linear" is the weighted
    regression of the papers; "smooth" fits a Gaussian process to the rows (where it is likelier, to logits of their
    probabilities) and reports its Shapley values: closer from the same rows, with standard errors in `stderr`.
    samples="auto", with "smooth": rows are added until the largest standard error of a segment is at most `tolerance`
    of the range of the values, for every target (Covert and Lee's rule), or there are `most`.
    segments, fill, explains: as for `Lime`.
    """

    method: ClassVar[str] = "kernel-shap"
    samples: int | str = 512
    segments: Any = field(default_factory=Quickshift)
    fill: Any = "black"
    explains: str = "probability"
    surrogate: str = "smooth"
    tolerance: float = 0.05
    most: int = 5000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_samples(self.samples, self.tolerance, self.most, _LEAST)
        check_choice("explains", self.explains, ("probability", "logit"))
        check_choice("surrogate", self.surrogate, ("linear", "smooth"))
        if self.samples == AUTO and self.surrogate != "smooth":
            raise ArgumentError(f'samples must be a number unless surrogate is "smooth", got {self.samples!r}')
        object.__setattr__(self, "fill", checked_fill(self.fill))

    def settle(self, preprocess: Preprocess, ids: Sequence[str]) -> KernelShap:
        check_channels(self.fill, preprocess)
        return super().settle(preprocess, ids)

    def row_count(self, targets: int) -> Mapping[str, int]:
        return {"scores": EXPECTED if isinstance(self.samples, str) else self.samples}

    def fields(self) -> tuple[Field, ...]:
        smooth = (Field("stderr", ("target", "segment"), long_name="standard error of the Shapley value"),)
        return (
            Field("maps", ("target", "y", "x"), long_name="Shapley value of the pixel's segment", optional=True),
            Field("weights", ("target", "segment"), long_name="Shapley value per segment"),
            *(smooth if self.surrogate == "smooth" else ()),
            Field("base", ("target",), long_name="score with no segment kept"),
            Field("samples", (), dtype="int32", long_name="model calls"),
        )

    def begin(self, batch: Batch) -> Task:
        return SmoothShapTask(self, batch) if self.surrogate == "smooth" else ShapTask(self, batch)

    def drawn(self, batch: Batch, counts: Tensor, images: Sequence[int], samples: int) -> tuple[Tensor, Tensor]:
        """The first coalitions of some images of a batch, [B', n, W], and their weights, [B', n]."""
        keys = sampling.stream_keys(batch.seed, [batch.digests[i] for i in images], self.method)
        places = torch.tensor(list(images), device=counts.device)
        return sampling.shapley_coalitions(keys.to(counts.device), counts[places], samples)

    def found(self, task: CoalitionTask, weights: Tensor) -> dict[str, Tensor]:
        """The fields of both tasks; efficiency holds to rounding afterwards."""
        difference = (task.values[:, 0] - task.values[:, 1]).double()
        own = task.segments.counts[:, None, None].double()
        weights = weights + ((difference - weights.double().nansum(-1))[..., None] / own).float()
        return {
            **painted(weights, task.segments.labels),
            "weights": weights,
            "base": task.values[:, 1].contiguous(),
            "samples": torch.tensor(task.have, dtype=torch.int32),
        }


class ShapTask(CoalitionTask):
    """A fixed number of rows, then one constrained regression for all images and targets."""

    def __init__(self, config: KernelShap, batch: Batch) -> None:
        super().__init__(config, batch)
        self.config = config
        self.weights = torch.empty(0)

    def all_of(self, samples: int) -> list[int]:
        return at_most_all(self.segments.counts, samples)

    def draw(self, images: Sequence[int], samples: int) -> Tensor:
        coalitions, self.weights = self.config.drawn(self.batch, self.segments.counts, images, samples)
        return coalitions

    def finish(self) -> Mapping[str, Tensor]:
        counts = self.segments.counts
        # Where an image has fewer coalitions than were asked for, rows of weight 0 stand behind its own.
        own = torch.arange(self.values.shape[1]) < torch.tensor(self.have)[:, None]
        values = torch.where(own[..., None].to(self.values.device), self.values, 0.0)
        weights = solve.shapley_regression(self.coalitions, self.weights, values, counts)
        return self.config.found(self, weights)


def at_most_all(counts: Tensor, samples: int) -> list[int]:
    """So many rows of every image, or all of its coalitions where these are fewer."""
    return [min(samples, 2 ** min(count, 30)) for count in counts.tolist()]


class SmoothShapTask(SmoothTask):
    """Rows as many as it takes, then the Shapley values of the stand-in for each image's game."""

    def __init__(self, config: KernelShap, batch: Batch) -> None:
        super().__init__(config, batch)
        self.config = config

    def all_of(self, samples: int) -> list[int]:
        return at_most_all(self.segments.counts, samples)

    def functional(self, segments: int) -> solve.ShapleyValues:
        return solve.ShapleyValues(segments, self.values.device)

    def error(self, report: solve.Report) -> float:
        span = (report.weights.amax(1) - report.weights.amin(1)).clamp_min(torch.finfo(torch.float64).tiny)
        return float((report.stderr.amax(1) / span).max())

    def draw(self, images: Sequence[int], samples: int) -> Tensor:
        return self.config.drawn(self.batch, self.segments.counts, images, samples)[0]

    def finish(self) -> Mapping[str, Tensor]:
        weights, stderr, _ = self.gathered()
        return self.config.found(self, weights) | {"stderr": stderr}
