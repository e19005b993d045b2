"""unpack: against Python's integers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.ops import unpack


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.sampled_from([(0,), (1,), (3,), (4, 2), (2, 3, 1), (0, 2), (2, 0)]),
    patterns=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=8, max_size=8),
    share=st.floats(0, 1),
    way=st.integers(0, 3),
)
def test_equals_the_bits(relaid, shape, patterns, share, way):
    words = torch.tensor(patterns[: math.prod(shape)], dtype=torch.int32).view(shape)
    count = round(share * 32 * shape[-1])
    got = unpack(relaid(words, way), count)
    assert got.dtype == torch.bool
    assert got.shape == (*shape[:-1], count)
    for bits, line in zip(got.view(math.prod(shape[:-1]), count), words.view(-1, max(shape[-1], 1)), strict=False):
        assert bits.tolist() == [bool((int(line[s // 32]) >> s % 32) & 1) for s in range(count)]


@pytest.mark.parametrize(
    ("words", "count", "error", "message"),
    [
        (torch.zeros(2, 2), 3, ArgumentError, "words must be int32"),
        (torch.tensor(1, dtype=torch.int32), 3, ArgumentError, r"words must be int32 \[..., W\], got int32 \[\]"),
        ([1], 3, ArgumentTypeError, "words must be a tensor, got list"),
        (torch.zeros(2, 2, dtype=torch.int32), 65, ArgumentError, "count must be between 0 and 64, got 65"),
        (torch.zeros(2, 2, dtype=torch.int32), -1, ArgumentError, "count must be between 0 and 64, got -1"),
        (torch.zeros(2, 2, dtype=torch.int32), 2.0, ArgumentTypeError, "count must be a whole number, got 2.0"),
    ],
)
def test_wrong_arguments(words, count, error, message):
    with pytest.raises(error, match=message):
        unpack(words, count)
