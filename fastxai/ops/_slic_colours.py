"""The colours that SLIC clusters: sRGB bytes -> stretched to the full range, CIE Lab, blurred, scaled; in float64."""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastxai.ops._lab import lab_with_numpy, lab_with_torch, linear

TRUNCATE = 4.0  # standard deviations that the blur reaches, as in skimage.filters.gaussian


def colours(pictures: Tensor, compactness: float, sigma: float) -> Tensor:
    """pictures uint8 [B, 3, H, W] -> float64 [B, 3, H, W] on the same device: blurred Lab over compactness.

    On the CPU the same numpy and scipy calls as in scikit-image give the same bits, so that equally near centres are
    equally near here too. Elsewhere the numbers agree to 1e-11 before they are scaled.
    """
    if pictures.device.type != "cpu":
        return _on_device(pictures, compactness, sigma)
    found = np.empty(pictures.shape)
    for picture, out in zip(pictures.numpy(), found, strict=True):
        lab_with_numpy(picture, linear(_stretched(picture)), out)
        if sigma > 0:
            from scipy import ndimage

            # scikit-image blurs along its depth of one pixel as well, which rounds once more
            deep = out[:, None]
            deep[:] = ndimage.gaussian_filter(deep, (0, sigma, sigma, sigma), mode="reflect", truncate=TRUNCATE)
        out *= 1.0 / compactness
    return torch.from_numpy(found)


def _stretched(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The levels of the bytes 0..255, float64 [256], where the picture's darkest and brightest become 0 and 1."""
    level = np.arange(256) * (1.0 / 255)
    low, high = level[picture.min()], level[picture.max()]
    level -= low
    if high != low:
        level /= high - low
    return np.maximum(level, 0.0)  # of bytes that the picture does not have


def _on_device(pictures: Tensor, compactness: float, sigma: float) -> Tensor:
    level = torch.arange(256, dtype=torch.float64, device=pictures.device) * (1.0 / 255)
    low, high = (level[extreme.long()][:, None] for extreme in torch.aminmax(pictures.flatten(1), dim=1))
    span = torch.where(high > low, high - low, 1.0)
    lab = lab_with_torch(pictures, linear(((level - low) / span).clamp_min(0.0)))
    if sigma > 0:
        down, across = (_blur(size, sigma).to(lab.device, non_blocking=True) for size in lab.shape[2:])
        lab = down @ lab @ across.T
    return lab * (1.0 / compactness)


@functools.lru_cache(maxsize=16)
def _blur(size: int, sigma: float) -> Tensor:
    """The blur along an axis as a matrix: float64 [size, size]."""
    from scipy import ndimage

    spread = ndimage.gaussian_filter1d(np.eye(size), sigma, axis=0, mode="reflect", truncate=TRUNCATE)
    return torch.from_numpy(spread)
