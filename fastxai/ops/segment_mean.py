"""The mean colour of every segment."""

from __future__ import annotations

import torch
from torch import Tensor

from fastxai.config import check_int
from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.ops._checks import check_devices, check_labels, check_tensor


def segment_mean(pictures: Tensor, labels: Tensor, segments: int, truncate: bool = False) -> Tensor:
    """Mean of the pixels of each segment, per channel.

    pictures uint8 or float32 [B, C, H, W]; labels int32 [B, H, W] in 0..segments-1. Returns float32
    [B, segments, C]; empty segments are 0. Sums are exact for uint8 and float64 for float32. `truncate` (uint8
    only) gives the floor of the exact mean, which is how the package lime fills hidden segments.
    """
    sizes: dict[str, int] = {}
    check_tensor("pictures", pictures, (torch.uint8, torch.float32), "B C H W", sizes)
    check_tensor("labels", labels, (torch.int32,), "B H W", sizes)
    check_devices(pictures=pictures, labels=labels)
    segments = check_int("segments", segments, 1)
    check_labels(labels, segments, "segments")
    whole = pictures.dtype == torch.uint8
    if not isinstance(truncate, bool):
        raise ArgumentTypeError(f"truncate must be True or False, got {truncate!r}")
    if truncate and not whole:
        raise ArgumentError(f"truncate must be used with uint8 pictures, got {pictures.dtype}")
    batch, channels = sizes["B"], sizes["C"]
    exact = torch.int64 if whole else torch.float64
    index = labels.flatten(1)[:, None].long()
    pixels = pictures.flatten(2).to(exact)
    sums = torch.zeros(batch, channels, segments, dtype=exact, device=pictures.device)
    sums.scatter_add_(2, index.expand(-1, channels, -1), pixels)
    counts = torch.zeros(batch, 1, segments, dtype=torch.int64, device=pictures.device)
    counts.scatter_add_(2, index, torch.ones_like(index)).clamp_(min=1)
    mean = sums // counts if truncate else sums.double() / counts.double()
    return mean.float().transpose(1, 2).contiguous()
