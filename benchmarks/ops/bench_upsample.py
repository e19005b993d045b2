"""upsample against one call of interpolate for all maps, and against writing the output once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fastxai.ops import upsample


def test_upsample(measure, device):
    batch, targets, side = (16 if device.type == "cpu" else 128), 5, 224
    native = torch.randn(batch, targets, 7, 7, generator=torch.Generator().manual_seed(0)).to(device)

    def peer() -> Tensor:
        return functional.interpolate(native, size=(side, side), mode="bilinear", align_corners=False)

    out = upsample(native, (side, side))
    # float32 interpolation of numbers of order 1, in another order of operations
    torch.testing.assert_close(out, peer(), rtol=0, atol=1e-5)
    measure(
        "upsample",
        f"{batch} images x {targets} maps, 7x7 to 224x224",
        lambda: upsample(native, (side, side)),
        peer=("one interpolate", peer),
        limit=("fill_ of the output", lambda: out.fill_(1)),
    )
