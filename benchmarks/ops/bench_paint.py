"""paint against indexing image by image, and against moving its bytes once."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.timing import copier, size_in_bytes
from fastxai.ops import paint


def test_paint(measure, device):
    batch, targets, side, segments = (8 if device.type == "cpu" else 64), 5, 224, 64
    g = torch.Generator().manual_seed(0)
    weights = torch.randn(batch, targets, segments, generator=g).to(device)
    labels = torch.randint(0, segments, (batch, side, side), generator=g).to(torch.int32).to(device)

    def peer() -> Tensor:
        return torch.stack([w[:, s] for w, s in zip(weights, labels, strict=True)])

    out = paint(weights, labels)
    assert torch.equal(out, peer())
    measure(
        "paint",
        f"{batch} images x {targets} targets, 224x224",
        lambda: paint(weights, labels),
        peer=("indexing image by image", peer),
        limit=("a copy of as many bytes", copier(size_in_bytes(labels, out), device)),
    )
