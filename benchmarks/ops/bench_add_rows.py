"""add_rows_ against index_add_, whose order of addition is not fixed on a GPU, and against moving its bytes once."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.timing import copier, size_in_bytes
from fastxai.ops import add_rows_


def test_add_rows(measure, device):
    images, rows, side = 4, (16 if device.type == "cpu" else 64), 224
    g = torch.Generator().manual_seed(0)
    values = torch.randn(rows, 3, side, side, generator=g).to(device)
    image = (torch.arange(rows) * images // rows).to(device)
    wanted = torch.zeros(images, 3, side, side, device=device)
    for row, b in enumerate(image.tolist()):
        wanted[b] += values[row]
    sums = torch.zeros_like(wanted)
    assert torch.equal(add_rows_(sums, image, values), wanted)

    def peer() -> Tensor:
        return sums.index_add_(0, image, values)

    measure(
        "add_rows_",
        f"{rows} rows of 3x224x224 into {images} images",
        lambda: add_rows_(sums, image, values),
        peer=("index_add_", peer),
        limit=("a copy of as many bytes", copier(size_in_bytes(values, sums, sums), device)),
    )
