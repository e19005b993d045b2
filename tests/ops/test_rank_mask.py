"""rank_mask: against Python's sort on (NaN last, value descending, raster index)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastxai.errors import ArgumentError
from fastxai.ops import rank_mask

NAN = float("nan")


def twin(plane, fraction):
    values = plane.flatten().tolist()
    order = sorted(range(len(values)), key=lambda i: (math.isnan(values[i]), -values[i], i))
    # Keys with NaN inside do not compare; replace the value there.
    order = sorted(order, key=lambda i: (True, 0.0, i) if math.isnan(values[i]) else (False, -values[i], i))
    mask = torch.zeros(len(values), dtype=torch.bool)
    mask[order[: math.floor(fraction * len(values) + 0.5)]] = True
    return mask.view(plane.shape)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 9),
    fraction=st.floats(0, 1),
    values=st.lists(
        st.sampled_from([0.0, -0.0, 0.5, -1.0, 3.0, math.inf, -math.inf, NAN]) | st.floats(-9, 9, width=32),
        min_size=54,
        max_size=54,
    ),
)
def test_equals_the_twin(height, width, fraction, values):
    plane = torch.tensor(values[: height * width]).view(height, width)
    assert torch.equal(rank_mask(plane, fraction), twin(plane, fraction))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("width", [1, 19, 111])
def test_every_plane_on_its_own(dtype, width):
    maps = torch.randn(2, 3, 7, width, generator=torch.Generator().manual_seed(0)).relu().to(dtype)
    for given_maps in (maps, maps.transpose(0, 1).contiguous().transpose(0, 1)):
        got = rank_mask(given_maps, 0.3)
        assert got.dtype == torch.bool
        assert got.shape == maps.shape
        for b in range(2):
            for k in range(3):
                assert torch.equal(got[b, k], twin(maps[b, k], 0.3))


def test_share_is_exact_where_most_pixels_tie():
    maps = torch.zeros(224, 224)
    maps[100, 100] = 1
    got = rank_mask(maps, 0.2)
    assert int(got.sum()) == math.floor(0.2 * 224 * 224 + 0.5)
    assert got[100, 100]
    assert got.flatten()[: int(got.sum()) - 1].all()


@pytest.mark.parametrize(("fraction", "count"), [(0, 0), (1, 6), (0.25, 2), (0.24, 1), (1 / 12, 1)])
def test_rounding(fraction, count):
    assert int(rank_mask(torch.rand(2, 3), fraction).sum()) == count


@pytest.mark.parametrize(
    ("maps", "fraction", "message"),
    [
        (torch.zeros(5), 0.2, "maps must be float32"),
        (torch.zeros(2, 2, dtype=torch.int32), 0.2, "maps must be float32"),
        (torch.zeros(2, 2), 1.1, "fraction must be a number at least 0 and at most 1"),
        (torch.zeros(2, 2), -0.1, "fraction must be a number at least 0"),
        (torch.zeros(2, 2), NAN, "fraction must be a number"),
        (torch.zeros(2, 2), "0.2", "fraction must be a number, got '0.2'"),
        (torch.zeros(2, 2), True, "fraction must be a number, got True"),
        ([[0.0]], 0.2, "maps must be a tensor, got list"),
    ],
)
def test_wrong_arguments(maps, fraction, message):
    with pytest.raises(ArgumentError, match=message):
        rank_mask(maps, fraction)
