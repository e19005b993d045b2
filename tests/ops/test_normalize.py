"""normalize: against numpy's float32 arithmetic, exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastxai.errors import ArgumentError
from fastxai.ops import normalize


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 5, 19), (3, 1, 4, 111)])
def test_equals_float32_steps(shape):
    pictures = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mean, std = (0.485, 0.456, 0.406)[: shape[1]], (0.229, 0.224, 0.225)[: shape[1]]
    m, s = (np.array(v, np.float32)[:, None, None] for v in (mean, std))
    wanted = (pictures.numpy().astype(np.float32) / np.float32(255) - m) / s
    for given in (pictures, pictures.to(memory_format=torch.channels_last)):
        got = normalize(given, mean, std)
        assert got.dtype == torch.float32
        assert np.array_equal(got.numpy(), wanted)


@pytest.mark.parametrize(
    ("pictures", "mean", "std", "message"),
    [
        (torch.zeros(1, 3, 2, 2), (0.5,) * 3, (0.5,) * 3, "pictures must be uint8"),
        (torch.zeros(3, 2, 2, dtype=torch.uint8), (0.5,) * 3, (0.5,) * 3, "pictures must be uint8"),
        (torch.zeros(1, 3, 2, 2, dtype=torch.uint8), (0.5,), (0.5,) * 3, "mean must have one number per channel"),
        (torch.zeros(1, 3, 2, 2, dtype=torch.uint8), (0.5,) * 3, (0.5, -1, 1), "std must be positive"),
    ],
)
def test_wrong_arguments(pictures, mean, std, message):
    with pytest.raises(ArgumentError, match=message):
        normalize(pictures, mean, std)
