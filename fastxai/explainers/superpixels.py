"""The part that methods share which give one number a superpixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from fastxai import ops
from fastxai.explainers.base import Explainer, shows_maps
from fastxai.segments import as_segmenter

if TYPE_CHECKING:
    from fastxai.segments import Segmenter
    from fastxai.types import Preprocess


class OnSuperpixels(Explainer):
    """Base of methods with `weights` [B, K, S], of which `maps` are painted. Subclasses have the field `segments`: a
    segmenter, its name, or ready label maps; None where they then do without."""

    segments: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.segments is not None:
            object.__setattr__(self, "segments", as_segmenter(self.segments))

    def settle(self, preprocess: Preprocess, ids: Sequence[str]) -> Self:
        if self.segments is None:
            return self
        # Every subclass has the field; the checker knows the base's only.
        return replace(self, segments=self.segments.settle(ids, preprocess.size))  # type: ignore[call-arg]

    def segmenters(self) -> tuple[Segmenter, ...]:
        return () if self.segments is None else (self.segments,)

    def rebuild(self, field: str, data: Mapping[str, Tensor], labels: Tensor | None, size: tuple[int, int]) -> Tensor:
        if field != "maps" or labels is None or self.segments is None:
            return super().rebuild(field, data, labels, size)
        return ops.paint(data["weights"], labels)


def painted(weights: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """`maps` float32 [B, K, H, W], where they are shown, of weights float32 [B, K, S] and labels int32 [B, H, W]."""
    return {"maps": ops.paint(weights, labels)} if shows_maps(weights.shape[1]) else {}
