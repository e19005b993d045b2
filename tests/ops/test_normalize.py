"""normalize: against numpy's float32 arithmetic, exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.ops import normalize


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 5, 19), (3, 1, 4, 111)])
def test_equals_float32_steps(shape):
    pictures = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mean, std = (0.485, 0.456, 0.406)[: shape[1]], (0.229, 0.224, 0.225)[: shape[1]]
    m, s = (np.array(v, np.float32)[:, None, None] for v in (mean, std))
    wanted = (pictures.numpy().astype(np.float32) / np.float32(255) - m) / s
    for laid in (pictures, pictures.to(memory_format=torch.channels_last)):
        got = normalize(laid, mean, std)
        assert got.dtype == torch.float32
        assert np.array_equal(got.numpy(), wanted)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(0, 9), st.integers(0, 20)),
    moments=st.lists(st.tuples(st.floats(-2, 2), st.floats(1e-3, 10)), min_size=5, max_size=5),
    way=st.integers(0, 3),
    seed=st.integers(0, 2**31),
)
def test_equals_float32_steps_in_any_layout(relaid, shape, moments, way, seed):
    pictures = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    mean, std = zip(*moments[: shape[1]], strict=True)
    m, s = (np.array(v, np.float32)[:, None, None] for v in (mean, std))
    wanted = (pictures.numpy().astype(np.float32) / np.float32(255) - m) / s
    assert np.array_equal(normalize(relaid(pictures, way), mean, std).numpy(), wanted)


PICTURES = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
HALVES = (0.5,) * 3


@pytest.mark.parametrize(
    ("pictures", "mean", "std", "message"),
    [
        (PICTURES.float(), HALVES, HALVES, "pictures must be uint8"),
        (PICTURES[0], HALVES, HALVES, "pictures must be uint8"),
        (PICTURES, (0.5,), HALVES, "mean must have one number per channel"),
        (PICTURES, (0.5, float("nan"), 0), HALVES, "mean must be finite, got"),
        (PICTURES, HALVES, (0.5, -1, 1), "std must be positive"),
        (PICTURES, HALVES, (0.5, float("inf"), 1), "std must be finite"),
    ],
)
def test_wrong_arguments(pictures, mean, std, message):
    with pytest.raises(ArgumentError, match=message):
        normalize(pictures, mean, std)


@pytest.mark.parametrize(
    ("pictures", "mean", "std", "message"),
    [
        (PICTURES.numpy(), HALVES, HALVES, "pictures must be a tensor, got ndarray"),
        (PICTURES, 0.5, HALVES, "mean must be a sequence of numbers, got 0.5"),
        (PICTURES, HALVES, "abc", "std must be a sequence of numbers, got 'abc'"),
    ],
)
def test_wrong_types(pictures, mean, std, message):
    with pytest.raises(ArgumentTypeError, match=message):
        normalize(pictures, mean, std)
