"""The rules that make a map binary: the most positive superpixels, the top share of pixels, or a threshold."""

from __future__ import annotations

import torch
from torch import Tensor

from fastxai.config import check_float, check_int
from fastxai.errors import ArgumentError
from fastxai.ops import rank_mask


def top_segments(weights: Tensor, segments: Tensor, count: int) -> Tensor:
    """The `count` segments with the largest positive weight, as pixels; fewer where fewer are positive.

    The rule of `get_image_and_mask(positive_only=True, num_features=count)` of the lime package, ties included:
    of equal weights the lower segment number comes first.

    Args:
        weights: float [..., K, S], NaN where an image has fewer than S segments.
        segments: integer labels [..., H, W] with the same leading axes; pixels below 0 belong to no segment.
        count: segments to keep, at least 1.

    Returns:
        bool [..., K, H, W].

    Raises:
        ArgumentError: for a wrong count, axes that do not fit, or a label that has no weight.
    """
    check_int("top_segments", count, 1)
    if weights.dim() < 2 or segments.dim() != weights.dim() or weights.shape[:-2] != segments.shape[:-2]:
        raise ArgumentError(
            "weights and segments must be [..., K, S] and [..., H, W] with the same leading axes, "
            f"got {tuple(weights.shape)} and {tuple(segments.shape)}"
        )
    if not weights.is_floating_point() or segments.is_floating_point():
        raise ArgumentError(f"weights must be floats and segments integers, got {weights.dtype} and {segments.dtype}")
    targets, size = weights.shape[-2:]
    labels = segments.long().flatten(-2).unsqueeze(-2)  # [..., 1, H * W]
    if labels.numel() and int(labels.max()) >= size:
        raise ArgumentError(f"segments must be below the number of weights {size}, got {int(labels.max())}")
    if not labels.numel() or size == 0:
        return segments.new_zeros((*segments.shape[:-2], targets, *segments.shape[-2:]), dtype=torch.bool)
    # NaN and everything that is not positive sorts behind every positive weight, and is never kept.
    gain = torch.where(weights > 0, weights, torch.zeros_like(weights))
    best = gain.sort(dim=-1, descending=True, stable=True).indices[..., :count]
    kept = torch.zeros_like(weights, dtype=torch.bool).scatter_(-1, best, True) & (gain > 0)
    wanted = labels.clamp(min=0).expand(*labels.shape[:-2], targets, labels.shape[-1])
    mask = kept.gather(-1, wanted) & (labels >= 0)
    return mask.unflatten(-1, segments.shape[-2:])


def positive_segments(weights: Tensor) -> Tensor:
    """How many segments a `top_segments` mask can have at most: weights float [..., S] -> int64 [...]."""
    return (weights > 0).sum(dim=-1)


def top_fraction(maps: Tensor, fraction: float) -> Tensor:
    """The top share of pixels by rank: exactly floor(fraction * H * W + 0.5), ties by raster order, NaN last.

    By rank, not by threshold: after the relu of Grad-CAM many pixels tie at 0, and `>= percentile` would take all.

    Args:
        maps: float [..., H, W].
        fraction: share of the pixels, above 0 and at most 1.

    Returns:
        bool [..., H, W].
    """
    check_float("top_fraction", fraction, 0.0, above=True, high=1.0)
    if maps.dim() < 2:
        raise ArgumentError(f"maps must be [..., H, W], got {tuple(maps.shape)}")
    return rank_mask(maps, fraction)


def at_least(maps: Tensor, threshold: float) -> Tensor:
    """The pixels that reach a share of their map's largest value; none where no value is positive.

    Of the map's own maximum, so that one threshold serves maps of any scale; for the displayed maps of the CAM family,
    which end at 1, it is the plain threshold.

    Args:
        maps: float [..., H, W]; a map with a NaN has an empty mask.
        threshold: share of the maximum, above 0 and at most 1.

    Returns:
        bool [..., H, W].
    """
    check_float("threshold", threshold, 0.0, above=True, high=1.0)
    if maps.dim() < 2:
        raise ArgumentError(f"maps must be [..., H, W], got {tuple(maps.shape)}")
    if not maps.numel():
        return torch.zeros_like(maps, dtype=torch.bool)
    peak = maps.amax((-2, -1), keepdim=True)
    return (maps >= threshold * peak) & (peak > 0)
