"""How much two masks have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from fastxai.errors import ArgumentError
from fastxai.ops._checks import check_devices, check_tensor


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and Dice, of masks.

    a, b: bool [..., H, W] of one shape. Returns iou = |a & b| / |a | b| and dice = 2 |a & b| / (|a| + |b|),
    float64 [...] each; NaN where both masks are empty. Counts are exact.
    """
    sizes: dict[str, int] = {}
    check_tensor("a", a, (torch.bool,), "... H W", sizes)
    check_tensor("b", b, (torch.bool,), "... H W", sizes)
    if a.shape != b.shape:
        raise ArgumentError(f"b must have the shape of a, {list(a.shape)}, got {list(b.shape)}")
    check_devices(a=a, b=b)
    both = (a & b).sum((-2, -1))
    area = a.sum((-2, -1)) + b.sum((-2, -1))
    # 0 / 0 is NaN, as wanted.
    return both.double() / (area - both).double(), (2 * both).double() / area.double()
