"""A mask's rule as data: what is kept of a map, said once, checked once, printed beside every figure made by it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from fastxai.config import check_float, check_int
from fastxai.errors import ArgumentError


@dataclass(frozen=True)
class MaskRule:
    """How the maps of a method become masks: exactly one of three.

    top_segments: the superpixels with the largest positive weight, at most that many (`masks.top_segments`).
    top_fraction: that share of the pixels, by rank (`masks.top_fraction`). threshold: the pixels that reach that share
    of their map's largest value (`masks.at_least`).
    """

    top_segments: int | None = None
    top_fraction: float | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        given = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        if len(given) != 1:
            names = ", ".join(field.name for field in fields(self))
            raise ArgumentError(f"rule must be one of {names}, got {' and '.join(given) or 'none'}")
        if self.top_segments is not None:
            check_int("top_segments", self.top_segments, 1)
        if self.top_fraction is not None:
            check_float("top_fraction", self.top_fraction, 0.0, above=True, high=1.0)
        if self.threshold is not None:
            check_float("threshold", self.threshold, 0.0, above=True, high=1.0)

    @staticmethod
    def parse(text: str) -> MaskRule:
        """`top_segments=10`, `top_fraction=0.2` or `threshold=0.5`, also with `-` for `_`."""
        name, equals, value = text.strip().partition("=")
        name = name.strip().replace("-", "_")
        known = [field.name for field in fields(MaskRule)]
        if not equals or name not in known:
            raise ArgumentError(f"rule must look like {'=N, '.join(known)}=N, got {text!r}")
        try:
            number = int(value) if name == "top_segments" else float(value)
        except ValueError:
            raise ArgumentError(f"{name} must be a number, got {value!r}") from None
        chosen: dict[str, Any] = {name: number}
        return MaskRule(**chosen)

    def __str__(self) -> str:
        if self.top_segments is not None:
            return f"top {self.top_segments} segments"
        if self.top_fraction is not None:
            return f"top {100 * self.top_fraction:.4g}% of pixels"
        return f"pixels of at least {100 * (self.threshold or 0):.4g}% of the maximum"
