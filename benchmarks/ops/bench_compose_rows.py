"""compose_rows against torch's where + normalise + cast, and against writing the output once.

python -m pytest benchmarks/ops/bench_compose_rows.py [--device cuda]
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastxai.ops import compose_rows, unpack

SIDE, SEGMENTS = 224, 49
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("channels_last", [True, False], ids=["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_compose_rows(measure, device, channels_last, dtype):
    rows = 8 if device.type == "cpu" else 256
    g = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (1, 3, SIDE, SIDE), generator=g).to(torch.uint8).to(device)
    cells = torch.arange(SIDE) // (SIDE // 7)
    labels = (cells[:, None] * 7 + cells)[None].to(torch.int32).to(device)
    coalitions = torch.randint(-(2**31), 2**31, (rows, 2), generator=g).to(torch.int32).to(device)
    image, fill = torch.zeros(rows, dtype=torch.int64), torch.zeros(3, device=device)
    layout = torch.channels_last if channels_last else torch.contiguous_format

    def op() -> Tensor:
        return compose_rows(
            picture, labels, coalitions, image, fill, mean=MEAN, std=STD, dtype=dtype, channels_last=channels_last
        )

    # The peer gets float pixels, dense masks and broadcast constants for nothing.
    pixels = picture.float().contiguous(memory_format=layout)
    keep = unpack(coalitions, SEGMENTS)[:, labels[0].long()][:, None]
    colour, white = fill.view(1, 3, 1, 1), torch.tensor(255.0, device=device)
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (MEAN, STD))

    def peer() -> Tensor:
        return ((torch.where(keep, pixels, colour) / white - mean) / std).to(dtype).contiguous(memory_format=layout)

    out = op()
    assert torch.equal(out, peer())
    kind = f"{str(dtype).removeprefix('torch.')} {'NHWC' if channels_last else 'NCHW'}"
    measure(
        f"compose_rows {kind}",
        f"{rows} rows of one 224x224 picture, 49 segments, black fill",
        op,
        peer=("where + normalise + cast", peer),
        limit=("fill_ of the output", lambda: out.fill_(1)),
    )
