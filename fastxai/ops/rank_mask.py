"""The top share of pixels, exactly."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastxai.config import check_float
from fastxai.ops._checks import check_tensor

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def rank_mask(maps: Tensor, fraction: float) -> Tensor:
    """The largest `fraction` of each map's pixels as a mask.

    maps float [..., H, W]; fraction in [0, 1]. Returns bool [..., H, W] with exactly
    floor(fraction * H * W + 0.5) pixels set in every map: by rank, ties in raster order, NaN behind everything.
    A threshold would not do: after a relu, many pixels tie at zero.
    """
    check_tensor("maps", maps, FLOATS, "... H W", {})
    fraction = check_float("fraction", fraction, 0.0, high=1.0)
    count = math.floor(fraction * maps.shape[-2] * maps.shape[-1] + 0.5)
    mask = torch.zeros(maps.shape, dtype=torch.bool, device=maps.device)
    if count and maps.numel():
        # Ascending order of the negated map: the stable sort keeps raster order in ties and puts NaN last.
        order = maps.neg().flatten(-2).sort(dim=-1, stable=True).indices
        mask.view(*maps.shape[:-2], -1).scatter_(-1, order[..., :count], True)
    return mask
