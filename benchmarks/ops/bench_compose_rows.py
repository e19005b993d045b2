"""compose_rows against torch's where + normalise + cast, and against writing the output once.

    python -m pytest benchmarks/ops/bench_compose_rows.py

Work: rows of one 224 x 224 x 3 picture on 7 x 7 segments, black fill; 8 rows on the CPU, 256 on the GPU where there is
one. The result is checked first; op, peer and limit take turns in one run, and the best of each counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fastxai.ops import compose_rows, unpack

SIDE, SEGMENTS, ROUNDS = 224, 49, 30
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def seconds(call: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("channels_last", [True, False], ids=["channels_last", "contiguous"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_compose_rows(benchmark, capsys, device, channels_last, dtype):
    rows = 8 if device == "cpu" else 256
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

    def limit() -> Tensor:
        return out.fill_(1)

    best = {call: float("inf") for call in (op, peer, limit)}
    for _ in range(ROUNDS):
        for call in best:
            best[call] = min(best[call], seconds(call, device))
    per_row = {call.__name__: 1e3 * best[call] / rows for call in best}
    ratio, share = best[peer] / best[op], best[limit] / best[op]
    benchmark.extra_info.update(per_row_ms=per_row, ratio_to_torch=ratio, share_of_fill=share, device=device)
    benchmark.pedantic(op, rounds=ROUNDS, warmup_rounds=2)
    with capsys.disabled():
        print(
            f"\ncompose_rows {device} {str(dtype).removeprefix('torch.')} {'NHWC' if channels_last else 'NCHW'}: "
            f"{per_row['op']:.4f} ms a row, {ratio:.1f}x torch's where + normalise + cast ({per_row['peer']:.3f} ms), "
            f"{share:.0%} of the speed of fill_"
        )
