"""Segment weights -> maps."""

from __future__ import annotations

import torch
from torch import Tensor

from fastxai.ops._checks import check_devices, check_labels, check_tensor


def paint(weights: Tensor, labels: Tensor) -> Tensor:
    """Give every pixel the weight of its segment.

    weights float32 [B, K, S], padding beyond an image's own segments is never read; labels int32 [B, H, W] in
    0..S-1. Returns float32 [B, K, H, W].
    """
    sizes: dict[str, int] = {}
    check_tensor("weights", weights, (torch.float32,), "B K S", sizes)
    check_tensor("labels", labels, (torch.int32,), "B H W", sizes)
    check_devices(weights=weights, labels=labels)
    check_labels(labels, sizes["S"], "the last axis of weights")
    batch, targets, height, width = (sizes[d] for d in "BKHW")
    index = labels.reshape(batch, 1, height * width).long().expand(-1, targets, -1)
    return weights.gather(2, index).reshape(batch, targets, height, width)
