"""overlap against products and sums of float masks, and against reading the masks once."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.timing import copier, size_in_bytes
from fastxai.ops import overlap


def test_overlap(measure, device):
    batch, side = (64 if device.type == "cpu" else 1000), 224
    g = torch.Generator().manual_seed(0)
    a, b = ((torch.rand(batch, side, side, generator=g) < share).to(device) for share in (0.2, 0.3))

    def peer() -> Tensor:
        both = (a.float() * b.float()).sum((1, 2))
        return both / (a.float().sum((1, 2)) + b.float().sum((1, 2)) - both)

    iou, dice = overlap(a, b)
    # Counts below 2^24 are exact in float32; what is left is its division.
    torch.testing.assert_close(peer().double(), iou, rtol=1e-6, atol=0)
    assert iou[0].item() == int((a[0] & b[0]).sum()) / int((a[0] | b[0]).sum())
    measure(
        "overlap",
        f"{batch} pairs of 224x224 masks",
        lambda: overlap(a, b),
        peer=("products of float masks", peer),
        limit=("a copy of as many bytes", copier(size_in_bytes(a, b, iou, dice), device)),
    )
