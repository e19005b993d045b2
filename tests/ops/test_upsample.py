"""upsample: against the bilinear formula, pixel by pixel."""

from __future__ import annotations

import math

import pytest
import torch

from fastxai.errors import ArgumentError
from fastxai.ops import upsample


def twin(plane, height, width):
    h, w = plane.shape
    out = torch.empty(height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            fy = max(0.0, (y + 0.5) * h / height - 0.5)
            fx = max(0.0, (x + 0.5) * w / width - 0.5)
            y0, x0 = math.floor(fy), math.floor(fx)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            ty, tx = fy - y0, fx - x0
            top = float(plane[y0, x0]) * (1 - tx) + float(plane[y0, x1]) * tx
            low = float(plane[y1, x0]) * (1 - tx) + float(plane[y1, x1]) * tx
            out[y, x] = top * (1 - ty) + low * ty
    return out


@pytest.mark.parametrize(
    ("native", "size"), [((1, 1), (5, 7)), ((7, 7), (19, 111)), ((3, 5), (3, 5)), ((8, 8), (1, 1)), ((2, 9), (20, 9))]
)
def test_equals_the_formula(native, size):
    maps = torch.randn(2, 3, *native, generator=torch.Generator().manual_seed(0))
    got = upsample(maps, size)
    assert got.dtype == torch.float32
    assert got.shape == (2, 3, *size)
    for b in range(2):
        for k in range(3):
            # Positions and weights are float32 in torch: 1e-7 of positions up to 10, times steps of up to 6.
            torch.testing.assert_close(got[b, k].double(), twin(maps[b, k], *size), rtol=0, atol=1e-5)


@pytest.mark.parametrize("targets", [1, 3])
def test_the_batch_and_the_layout_do_not_matter(targets):
    maps = torch.randn(9, targets, 7, 7, generator=torch.Generator().manual_seed(1))
    together = upsample(maps, (224, 224))
    for b in range(9):
        assert torch.equal(upsample(maps[b : b + 1], (224, 224))[0], together[b])
    assert torch.equal(upsample(maps.to(memory_format=torch.channels_last), (224, 224)), together)
    assert torch.equal(upsample(maps.transpose(0, 1), (224, 224)), together.transpose(0, 1))


def test_no_maps():
    assert upsample(torch.zeros(0, 2, 7, 7), (3, 4)).shape == (0, 2, 3, 4)


@pytest.mark.parametrize(
    ("native", "size", "message"),
    [
        (torch.zeros(1, 7, 7), (3, 3), "native must be float32"),
        (torch.zeros(1, 1, 7, 7).half(), (3, 3), "native must be float32"),
        (torch.zeros(1, 1, 0, 7), (3, 3), "native must not be empty"),
        (torch.zeros(1, 1, 7, 7), (3,), "size must be"),
        (torch.zeros(1, 1, 7, 7), (3, 0), r"size\[1\] must be at least 1"),
    ],
)
def test_wrong_arguments(native, size, message):
    with pytest.raises(ArgumentError, match=message):
        upsample(native, size)
