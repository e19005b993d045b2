"""paint: against a loop over pixels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastxai.errors import ArgumentError
from fastxai.ops import paint


def twin(weights, labels):
    batch, targets, _ = weights.shape
    out = torch.empty(batch, targets, *labels.shape[1:])
    for b in range(batch):
        for k in range(targets):
            for y in range(labels.shape[1]):
                for x in range(labels.shape[2]):
                    out[b, k, y, x] = weights[b, k, int(labels[b, y, x])]
    return out


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 3),
    targets=st.integers(1, 3),
    segments=st.integers(1, 50),
    height=st.integers(1, 8),
    width=st.integers(1, 12),
    seed=st.integers(0, 2**31),
)
def test_equals_the_twin(batch, targets, segments, height, width, seed):
    g = torch.Generator().manual_seed(seed)
    weights = torch.randn(batch, targets, segments, generator=g)
    labels = torch.randint(0, segments, (batch, height, width), generator=g).to(torch.int32)
    assert torch.equal(paint(weights, labels), twin(weights, labels))


@pytest.mark.parametrize(("width", "segments"), [(1, 1), (19, 500), (111, 7), (989, 40)])
def test_awkward_sizes_and_strides(width, segments):
    g = torch.Generator().manual_seed(width)
    weights = torch.randn(2, segments, 3, generator=g).transpose(1, 2)
    labels = torch.randint(0, segments, (2, width, 3), generator=g).to(torch.int32).transpose(1, 2)
    assert torch.equal(paint(weights, labels), twin(weights, labels))


def test_padding_is_never_read():
    weights = torch.tensor([[[1.0, 2.0, float("nan")]]])
    assert paint(weights, torch.tensor([[[0, 1], [1, 0]]], dtype=torch.int32)).tolist() == [[[[1, 2], [2, 1]]]]


@pytest.mark.parametrize(
    ("weights", "labels", "message"),
    [
        (torch.zeros(1, 2), torch.zeros(1, 2, 2, dtype=torch.int32), "weights must be float32"),
        (torch.zeros(1, 1, 2).double(), torch.zeros(1, 2, 2, dtype=torch.int32), "weights must be float32"),
        (torch.zeros(1, 1, 2), torch.zeros(1, 2, 2), "labels must be int32"),
        (torch.zeros(1, 1, 2), torch.zeros(2, 2, 2, dtype=torch.int32), r"labels must be int32 \[B=1, H, W\]"),
        (torch.zeros(1, 1, 2), torch.full((1, 2, 2), 2, dtype=torch.int32), "labels must be between 0 and 1"),
        (torch.zeros(1, 1, 2), torch.zeros(1, 2, 2, dtype=torch.int32, device="meta"), "labels must be on cpu"),
    ],
)
def test_wrong_arguments(weights, labels, message):
    with pytest.raises(ArgumentError, match=message):
        paint(weights, labels)
