"""overlap: against Python sets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.ops import overlap


@settings(max_examples=40, deadline=None, derandomize=True)
@given(height=st.integers(1, 5), width=st.integers(1, 7), share=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_equals_sets(height, width, share, seed):
    g = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(2, 3, height, width, generator=g) < share for _ in range(2))
    iou, dice = overlap(a, b)
    assert iou.dtype == dice.dtype == torch.float64
    assert iou.shape == dice.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            first, second = (set(m[i, j].flatten().nonzero().flatten().tolist()) for m in (a, b))
            if first | second:
                assert iou[i, j] == len(first & second) / len(first | second)
                assert dice[i, j] == 2 * len(first & second) / (len(first) + len(second))
            else:
                assert math.isnan(iou[i, j])
                assert math.isnan(dice[i, j])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.lists(st.integers(0, 4), max_size=3),
    size=st.tuples(st.integers(0, 12), st.integers(0, 20)),
    share=st.floats(0, 1),
    ways=st.tuples(*[st.integers(0, 3)] * 2),
    seed=st.integers(0, 2**31),
)
def test_equals_counts_in_any_layout(relaid, shape, size, share, ways, seed):
    g = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(*shape, *size, generator=g) < share for _ in range(2))
    got = overlap(*(relaid(mask, way) for mask, way in zip((a, b), ways, strict=True)))
    both, either = ((op(a.numpy(), b.numpy())).sum((-2, -1)) for op in (np.logical_and, np.logical_or))
    with np.errstate(invalid="ignore"):
        wanted = np.divide(both, either), np.divide(2 * both, both + either)
    for one, other in zip(got, wanted, strict=True):
        assert np.array_equal(one.numpy(), other, equal_nan=True)


def test_ends():
    full, none = torch.ones(989, 19, dtype=torch.bool), torch.zeros(989, 19, dtype=torch.bool)
    assert [float(v) for v in overlap(full, full)] == [1.0, 1.0]
    assert [float(v) for v in overlap(full, none)] == [0.0, 0.0]


def test_strides():
    a = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(0)) < 0.5
    b = a.flip(0)
    wanted = overlap(a, b)
    got = overlap(a.transpose(1, 2).contiguous().transpose(1, 2), b)
    assert all(torch.equal(x, y) for x, y in zip(got, wanted, strict=True))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(2, 2), torch.zeros(2, 2), "a must be bool"),
        (torch.zeros(2, 2).bool(), torch.zeros(2, 3).bool(), r"b must be bool \[..., H=2, W=2\]"),
        (torch.zeros(1, 2, 2).bool(), torch.zeros(2, 2).bool(), "b must have the shape of a"),
        (torch.zeros(2).bool(), torch.zeros(2).bool(), "a must be bool"),
        (torch.zeros(2, 2).bool(), torch.zeros(2, 2, device="meta").bool(), "b must be on cpu like a"),
    ],
)
def test_wrong_arguments(a, b, message):
    with pytest.raises(ArgumentError, match=message):
        overlap(a, b)


def test_wrong_type():
    with pytest.raises(ArgumentTypeError, match="b must be a tensor, got ndarray"):
        overlap(torch.zeros(2, 2).bool(), np.zeros((2, 2), bool))
