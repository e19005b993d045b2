"""One method's side of a comparison: its answers for some images, and what measures look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from fastxai import masks
from fastxai.masks import MaskRule
from fastxai.measures.correlation import pearson, ragged, ranks, spearman, top_overlap
from fastxai.measures.segment_sums import segment_sums, weight_sums
from fastxai.ops import overlap

NO_MAP = "without a finite map of {}"


@dataclass(frozen=True)
class Superpixels:
    """labels integer [B, H, W], counts int64 [B]."""

    labels: Tensor
    counts: Tensor


@dataclass(frozen=True, eq=False)
class Answers:
    """What one method says about B images, for one target.

    maps float [B, H, W]; weights float [B, S] of its own superpixels, where it gives some; missing: for each image why
    it has no map, "" where it has one.
    """

    name: str
    maps: Tensor
    weights: Tensor | None = None
    own: Superpixels | None = None
    missing: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Side:
    """Answers made comparable: masks by a rule, ranks of pixels, sums over common superpixels."""

    answers: Answers
    rule: MaskRule
    common: Superpixels | None

    @cached_property
    def left_out(self) -> list[str]:
        """For each image why this side cannot be compared, "" where it can."""
        maps = self.answers.maps
        finite = maps.isfinite().flatten(1).all(1).tolist()
        reasons = self.answers.missing or [""] * len(maps)
        unfit = NO_MAP.format(self.answers.name)
        return [reason or ("" if fine else unfit) for reason, fine in zip(reasons, finite, strict=True)]

    @cached_property
    def pixels(self) -> Tensor:
        """The maps flattened, [B, H * W], zeros where there is none."""
        return torch.where(self.answers.maps.isfinite(), self.answers.maps, 0.0).flatten(1)

    @cached_property
    def ranks(self) -> Tensor:
        """Ranks of the pixels, float32 [B, H * W]."""
        return ranks(self.pixels)

    @cached_property
    def sums(self) -> Tensor:
        """Sums over the common superpixels, float64 [B, S]."""
        assert self.common is not None
        given = self.answers
        if given.weights is not None and given.own is not None:
            return weight_sums(given.weights, given.own.labels, self.common.labels, self.common.counts)
        return segment_sums(self.pixels.view(given.maps.shape), self.common.labels, self.common.counts)

    @cached_property
    def _ranked_segments(self) -> tuple[Tensor, Tensor]:
        """Weights float [B, S] and labels [B, H, W] that the rule of the top segments looks at."""
        given = self.answers
        if given.weights is not None and given.own is not None:
            return given.weights, given.own.labels
        assert self.common is not None
        return self.sums, self.common.labels

    @cached_property
    def mask(self) -> Tensor:
        """bool [B, H, W]."""
        rule = self.rule
        if rule.top_segments is not None:
            weights, labels = self._ranked_segments
            return masks.top_segments(weights.unsqueeze(1), labels, rule.top_segments).squeeze(1)
        if rule.top_fraction is not None:
            return masks.top_fraction(self.answers.maps, rule.top_fraction)
        assert rule.threshold is not None
        return masks.at_least(self.answers.maps, rule.threshold)

    @cached_property
    def notes(self) -> list[str]:
        """For each image what to know about its mask, "" for nothing."""
        wanted = self.rule.top_segments
        if wanted is None:
            return [""] * len(self.answers.maps)
        positive = masks.positive_segments(self._ranked_segments[0]).tolist()
        name = self.answers.name
        return ["" if n >= wanted else f"{name}: only {n} of {wanted} segments are positive" for n in positive]


def measured(first: Side, second: Side, measures: Sequence[str], top_segments: int) -> dict[str, Tensor]:
    """The measures of two sides: float64 [B] each."""
    found: dict[str, Tensor] = {}
    if "iou" in measures or "dice" in measures:
        found["iou"], found["dice"] = overlap(first.mask, second.mask)
    on_segments: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
        "segment_spearman": spearman,
        "segment_pearson": pearson,
        "top_overlap": partial(top_overlap, count=top_segments),
    }
    for name in measures:
        if name == "spearman":
            found[name] = pearson(first.ranks, second.ranks)
        elif name == "pearson":
            found[name] = pearson(first.pixels, second.pixels)
        elif name in on_segments:
            assert first.common is not None
            found[name] = ragged(on_segments[name], first.sums, second.sums, first.common.counts)
    return {name: found[name].double().cpu() for name in measures}
