"""segment_mean against a float32 scatter_add_, whose sums are not exact, and against reading the pictures once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing import copier, size_in_bytes
from fastxai.ops import segment_mean


def test_segment_mean(measure, device):
    batch, side, segments = (8 if device.type == "cpu" else 64), 224, 64
    g = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (batch, 3, side, side), generator=g).to(torch.uint8)
    cells = torch.arange(side) // 28
    labels = (cells[:, None] * 8 + cells).to(torch.int32).expand(batch, side, side).contiguous()
    inside = (labels[0] == 9).numpy()
    wanted = np.array([pictures[0, c].numpy()[inside].mean(dtype=np.float64) for c in range(3)], np.float32)
    pictures, labels = pictures.to(device), labels.to(device)
    found = segment_mean(pictures, labels, segments)
    assert np.array_equal(found[0, 9].cpu().numpy(), wanted)

    def peer() -> Tensor:
        index = labels.reshape(batch, 1, -1).long()
        pixels = pictures.reshape(batch, 3, -1).float()
        sums = torch.zeros(batch, 3, segments, device=device).scatter_add_(2, index.expand(-1, 3, -1), pixels)
        counts = torch.zeros(batch, 1, segments, device=device).scatter_add_(2, index, torch.ones_like(pixels[:, :1]))
        return sums / counts

    measure(
        "segment_mean",
        f"{batch} pictures of 224x224, 64 segments",
        lambda: segment_mean(pictures, labels, segments),
        peer=("float32 scatter_add_", peer),
        limit=("a copy of as many bytes", copier(size_in_bytes(pictures, labels, found), device)),
    )
