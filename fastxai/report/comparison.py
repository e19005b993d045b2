"""Which two methods a figure compares, and by which rules their maps become masks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fastxai.config import check_float, check_int
from fastxai.results import Found, MethodResult


@dataclass(frozen=True)
class Comparison:
    """Which two methods a panel compares and how their maps become masks; "" picks them.

    Unnamed, the first method on superpixels meets the first one without. Methods on superpixels are made binary by
    their `top_segments` most positive segments, the others by their top share of pixels `top_fraction`.
    """

    first: str = ""
    second: str = ""
    top_segments: int = 10
    top_fraction: float = 0.2

    def __post_init__(self) -> None:
        check_int("top_segments", self.top_segments, 1)
        check_float("top_fraction", self.top_fraction, 0.0, above=True, high=1.0)

    def pair(self, found: Found) -> tuple[str, str] | None:
        """The two names, or None where the results hold fewer than two methods; refuses names they do not hold."""
        for name in filter(None, (self.first, self.second)):
            found[name]
        by_segments = [name for name in found if on_segments(found[name])]
        others = [name for name in found if name not in by_segments]
        others.sort(key=lambda name: "native" not in found[name].data)  # class activation maps first
        order = by_segments[:1] + others + by_segments[1:]
        first = self.first or next((name for name in order if name != self.second), "")
        second = self.second or next((name for name in order if name != first), "")
        return (first, second) if first and second else None

    def rule(self, result: MethodResult) -> str:
        """In words, how the method's maps become masks."""
        if on_segments(result):
            return f"top {self.top_segments} segments"
        return f"top {100 * self.top_fraction:.4g}% of pixels"

    def mask(self, result: MethodResult) -> Tensor:
        """bool [K, H, W] of one image's result."""
        if on_segments(result):
            return result.mask(top_segments=self.top_segments)
        return result.mask(top_fraction=self.top_fraction)


def on_segments(result: MethodResult) -> bool:
    """Whether a method gives weights to superpixels."""
    return result.segments is not None and "weights" in result.data
