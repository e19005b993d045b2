"""rank_mask against topk + scatter, which does not promise raster order in ties, and against moving its bytes once."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.timing import copier, size_in_bytes
from fastxai.ops import rank_mask


def test_rank_mask(measure, device):
    batch, side, fraction = (16 if device.type == "cpu" else 320), 224, 0.2
    maps = torch.randn(batch, side, side, generator=torch.Generator().manual_seed(0)).relu().to(device)
    count = int(fraction * side * side + 0.5)

    def peer() -> Tensor:
        flat = maps.flatten(1)
        return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, flat.topk(count).indices, True).view(maps.shape)

    out = rank_mask(maps, fraction)
    assert (out.sum((1, 2)) == count).all()
    # Ties aside, the masks are the same: both hold every pixel above the least one chosen.
    least = maps.masked_fill(~out, float("inf")).amin((1, 2), keepdim=True)
    assert torch.equal(out & (maps > least), peer() & (maps > least))
    assert not ((maps > least) & ~out).any()
    measure(
        "rank_mask",
        f"{batch} maps of 224x224, the top 20%",
        lambda: rank_mask(maps, fraction),
        peer=("topk + scatter", peer),
        limit=("a copy of as many bytes", copier(size_in_bytes(maps, out), device)),
    )
