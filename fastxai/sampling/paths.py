"""Draws along a path from a baseline to a picture, and noise in pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from fastxai import ops

PATH, NOISE, BASELINE = 1, 2, 3  # streams of the counter; the method is in the key


def path_draws(keys: Tensor, image: Tensor, ordinal: Tensor, baselines: int) -> tuple[Tensor, Tensor]:
    """Where on the path, and from which baseline: alpha float32 [R] in [0, 1), index int64 [R] in 0..baselines-1."""
    words = ops.random_words(keys, image, ordinal, 2, PATH)
    alpha = ops.uniforms(words[:, 0])
    unsigned = words[:, 1].to(torch.int64) & 0xFFFFFFFF
    return alpha, (unsigned * baselines) >> 32


def pixel_normals(keys: Tensor, image: Tensor, ordinal: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Standard normal noise for every pixel: float32 [R, C, H, W], drawn on the device of `keys`."""
    size = shape[0] * shape[1] * shape[2]
    words = ops.random_words(keys, image, ordinal, 2 * ((size + 1) // 2), NOISE)
    return ops.normals(words)[:, :size].reshape(-1, *shape)


def pixel_uniforms(keys: Tensor, image: Tensor, ordinal: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Uniform noise in [0, 1) for every pixel: float32 [R, C, H, W], drawn on the device of `keys`."""
    size = shape[0] * shape[1] * shape[2]
    words = ops.random_words(keys, image, ordinal, size, BASELINE)
    return ops.uniforms(words).reshape(-1, *shape)
