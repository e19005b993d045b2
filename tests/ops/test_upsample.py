"""upsample: against the bilinear formula, pixel by pixel."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.ops import upsample


def twin(plane, height, width, corners=False):
    h, w = plane.shape
    out = torch.empty(height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            fy = max(0.0, (y + 0.5) * h / height - 0.5)
            fx = max(0.0, (x + 0.5) * w / width - 0.5)
            if corners:
                fy = y * (h - 1) / (height - 1) if height > 1 else 0.0
                fx = x * (w - 1) / (width - 1) if width > 1 else 0.0
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
@pytest.mark.parametrize("corners", [False, True])
def test_equals_the_formula(native, size, corners):
    maps = torch.randn(2, 3, *native, generator=torch.Generator().manual_seed(0))
    got = upsample(maps, size, align_corners=corners)
    assert got.dtype == torch.float32
    assert got.shape == (2, 3, *size)
    for b in range(2):
        for k in range(3):
            # Positions and weights are float32 in torch: 1e-7 of positions up to 10, times steps of up to 6.
            torch.testing.assert_close(got[b, k].double(), twin(maps[b, k], *size, corners), rtol=0, atol=1e-5)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    batch=st.integers(0, 2),
    targets=st.integers(0, 2),
    native=st.tuples(st.integers(1, 7), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 11), st.integers(1, 19)),
    way=st.integers(0, 3),
    seed=st.integers(0, 2**31),
)
def test_equals_the_formula_in_any_layout(relaid, batch, targets, native, size, way, seed):
    maps = torch.randn(batch, targets, *native, generator=torch.Generator().manual_seed(seed))
    got = upsample(relaid(maps, way), size)
    assert got.shape == (batch, targets, *size)
    for b in range(batch):
        for k in range(targets):
            # as above: positions are float32
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
    ("native", "size", "error", "message"),
    [
        (torch.zeros(1, 7, 7), (3, 3), ArgumentError, "native must be float32"),
        (torch.zeros(1, 1, 7, 7).half(), (3, 3), ArgumentError, "native must be float32"),
        (torch.zeros(1, 1, 0, 7), (3, 3), ArgumentError, "native must not be empty"),
        (torch.zeros(1, 1, 7, 7), (3,), ArgumentError, "size must be"),
        (torch.zeros(1, 1, 7, 7), (3, 0), ArgumentError, r"size\[1\] must be at least 1"),
        (torch.zeros(1, 1, 7, 7), (-2, 3), ArgumentError, r"size\[0\] must be at least 1, got -2"),
        (torch.zeros(1, 1, 7, 7), 3, ArgumentError, r"size must be \(H, W\), got 3"),
        (torch.zeros(1, 1, 7, 7), (3, 2.5), ArgumentTypeError, r"size\[1\] must be a whole number, got 2.5"),
        ([[1.0]], (3, 3), ArgumentTypeError, "native must be a tensor, got list"),
    ],
)
def test_wrong_arguments(native, size, error, message):
    with pytest.raises(error, match=message):
        upsample(native, size)
