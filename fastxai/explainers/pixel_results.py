"""What the methods with a value for every pixel have in common: their fields, their results, and how many classes."""

from __future__ import annotations

import torch
from torch import Tensor

from fastxai.errors import ArgumentError
from fastxai.types import Field

PIXEL_TARGETS = 128  # gradients of so many classes take 80 MB a row and a picture at 224x224


def check_pixel_targets(name: str, targets: int, instead: str = "") -> None:
    """Raise `ArgumentError` where a value for every pixel and target would be too many; `instead`: what to do."""
    if targets > PIXEL_TARGETS:
        raise ArgumentError(
            f"targets must be at most {PIXEL_TARGETS} for {name} with a value for every pixel, got {targets}{instead}"
        )


def attribution_fields(attributions: bool, *, delta: bool = False) -> tuple[Field, ...]:
    """The fields of a method that attributes to every number of the model's input."""
    found = [Field("maps", ("target", "y", "x"), long_name="attribution, summed over channels")]
    if delta:
        found.append(Field("delta", ("target",), long_name="convergence delta"))
    if attributions:
        found.append(Field("attributions", ("target", "channel", "y", "x"), long_name="attribution"))
    return tuple(found)


def attribution_results(attributions: Tensor, keep: bool) -> dict[str, Tensor]:
    """Attributions [B, K, C, H, W] -> maps [B, K, H, W], summed over channels, and where they are kept, themselves."""
    return {"maps": attributions.sum(dim=2), **({"attributions": attributions} if keep else {})}


def map_sums(maps: Tensor) -> Tensor:
    """The sum of every map, [B, K] for maps [B, K, H, W]; each by itself, for torch adds up one lone map in another
    order than the maps of a batch."""
    return torch.stack([single.sum() for single in maps.flatten(0, 1)]).reshape(maps.shape[:2])
