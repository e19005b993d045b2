"""Pictures -> model input: (pixel / 255 - mean) / std per channel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastxai.ops._checks import check_moments, check_tensor


def normalize(pictures: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalise pictures.

    pictures uint8 [B, C, H, W]; mean, std: C numbers each, in units of [0, 1]. Returns float32 [B, C, H, W].
    Every step rounds to float32, in the order of the formula, on every device.
    """
    check_tensor("pictures", pictures, (torch.uint8,), "B C H W", {})
    check_moments(mean, std, pictures.shape[1])
    return normalize_values(pictures.float(), mean, std, axis=1)


def normalize_values(values: Tensor, mean: Sequence[float], std: Sequence[float], axis: int) -> Tensor:
    """The formula on float32 values in pixel units 0..255 with the channels on `axis`."""
    shape = [1] * values.dim()
    shape[axis] = -1
    # Divisors are tensors: with a Python number, torch on a GPU multiplies by the reciprocal, which rounds otherwise.
    white = torch.tensor(255.0, device=values.device)
    means = torch.tensor(mean, dtype=torch.float32, device=values.device).reshape(shape)
    stds = torch.tensor(std, dtype=torch.float32, device=values.device).reshape(shape)
    return (values / white - means) / stds
