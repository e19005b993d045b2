"""Random maps: what any method must beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastxai import sampling
from fastxai.explainers.base import Batch, Done
from fastxai.explainers.pixel_results import check_pixel_targets
from fastxai.explainers.superpixels import OnSuperpixels, painted
from fastxai.types import Field


@dataclass(frozen=True)
class Random(OnSuperpixels):
    """Random: maps of standard normal noise, the floor of every measure. The model is not asked.

    Noise is keyed by (seed, image, class), so that a class has the same map whatever is explained beside it. Without
    segments it is drawn for every pixel. segments: a segmenter, its name, or ready label maps: one number a superpixel,
    as `weights` [K, S] and painted, which is the floor for methods on the same superpixels; a coarse grid is that for
    CAM methods.

    Model calls: none beside the prediction.
    """

    method: ClassVar[str] = "random"
    segments: Any = None

    def check_targets(self, targets: int) -> None:
        if self.segments is None:
            check_pixel_targets(self.name, targets, instead=": set its segments")

    def fields(self) -> tuple[Field, ...]:
        if self.segments is None:
            return (Field("maps", ("target", "y", "x"), long_name="noise"),)
        return (
            Field("maps", ("target", "y", "x"), long_name="noise of the pixel's segment", optional=True),
            Field("weights", ("target", "segment"), long_name="noise per segment"),
        )

    def begin(self, batch: Batch) -> RandomTask:
        return RandomTask(self, batch)


class RandomTask(Done):
    """Needs no rows."""

    def __init__(self, config: Random, batch: Batch) -> None:
        self.config, self.batch = config, batch

    def finish(self) -> Mapping[str, Tensor]:
        if self.config.segments is None:
            height, width = self.batch.inputs.shape[-2:]
            return {"maps": self._noise(height * width).unflatten(2, (height, width))}
        segments = self.batch.segments[self.config.segments.key]
        most = int(segments.counts.max())
        beyond = torch.arange(most, device=segments.counts.device) >= segments.counts.reshape(-1, 1, 1)
        weights = self._noise(most).masked_fill(beyond, float("nan"))
        return {**painted(weights, segments.labels), "weights": weights}

    def _noise(self, count: int) -> Tensor:
        """So many numbers for every image and target: float32 [B, K, count]."""
        images, targets = self.batch.targets.shape
        keys = sampling.stream_keys(self.batch.seed, self.batch.digests, self.config.method)
        keys = keys.to(self.batch.inputs.device)
        image = torch.arange(images, device=keys.device).repeat_interleave(targets)
        noise = sampling.pixel_normals(keys, image, self.batch.targets.flatten(), (1, 1, count))
        return noise.reshape(images, targets, count)
