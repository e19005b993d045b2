"""blend_rows against torch's own expression, and against writing the output once.

python -m pytest benchmarks/ops/bench_blend_rows.py [--device cuda]
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastxai.ops import blend_rows

SIDE = 224


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_blend_rows(measure, device, dtype):
    rows = 8 if device.type == "cpu" else 256
    g = torch.Generator().manual_seed(0)
    picture = torch.randn(1, 3, SIDE, SIDE, generator=g).to(device)
    masks = torch.rand(rows, SIDE, SIDE, generator=g).to(device)
    image, fill = torch.zeros(rows, dtype=torch.int64), torch.zeros(1, 3, device=device)

    def op() -> Tensor:
        return blend_rows(picture, masks, image, fill, dtype=dtype)

    def peer() -> Tensor:
        share = masks.unsqueeze(1)
        blended = share * picture + (1 - share) * fill.view(1, 3, 1, 1)
        return blended.to(dtype).contiguous(memory_format=torch.channels_last)

    out = op()
    assert torch.equal(out, peer())
    measure(
        f"blend_rows {str(dtype).removeprefix('torch.')}",
        f"{rows} rows of one 224x224 picture, black fill",
        op,
        peer=("multiply, add, cast", peer),
        limit=("fill_ of the output", lambda: out.fill_(1)),
    )
