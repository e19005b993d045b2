"""The colours that SLIC clusters: sRGB bytes -> stretched to the full range, CIE Lab, blurred, scaled; in float64."""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastxai.ops._quickshift_lab import _KNEE, _OFFSET, _SLOPE, _WHITE, _XYZ_FROM_RGB

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
        _convert(picture, out)
        if sigma > 0:
            from scipy import ndimage

            # scikit-image blurs along its depth of one pixel as well, which rounds once more
            deep = out[:, None]
            deep[:] = ndimage.gaussian_filter(deep, (0, sigma, sigma, sigma), mode="reflect", truncate=TRUNCATE)
        out *= 1.0 / compactness
    return torch.from_numpy(found)


def _convert(picture: NDArray[np.uint8], out: NDArray[np.float64]) -> None:
    """Lab of one picture uint8 [3, H, W], whose darkest and brightest byte become 0 and 1, into out [3, H, W]."""
    level = np.arange(256) * (1.0 / 255)
    low, high = level[picture.min()], level[picture.max()]
    level -= low
    if high != low:
        level /= high - low
    level = np.maximum(level, 0.0)  # of bytes that the picture does not have
    linear = np.where(level > 0.04045, np.power((level + 0.055) / 1.055, 2.4), level / 12.92)
    xyz = linear.take(np.ascontiguousarray(picture.transpose(1, 2, 0))) @ _XYZ_FROM_RGB.T
    xyz /= _WHITE
    root = np.cbrt(xyz)
    below = xyz <= _KNEE
    root[below] = _SLOPE * xyz[below] + _OFFSET
    x, y, z = np.moveaxis(root, -1, 0)
    np.subtract(116.0 * y, 16.0, out=out[0])
    np.multiply(500.0, x - y, out=out[1])
    np.multiply(200.0, y - z, out=out[2])


def _on_device(pictures: Tensor, compactness: float, sigma: float) -> Tensor:
    flat = pictures.flatten(1)
    level = torch.arange(256, dtype=torch.float64, device=pictures.device) * (1.0 / 255)
    low, high = (level[extreme.long()][:, None] for extreme in torch.aminmax(flat, dim=1))
    span = torch.where(high > low, high - low, 1.0)
    level = ((level - low) / span).clamp_min(0.0)  # [B, 256]
    linear = torch.where(level > 0.04045, ((level + 0.055) / 1.055).pow(2.4), level / 12.92)
    light = linear.gather(1, flat.long()).view(pictures.shape)
    r, g, b = light.unbind(1)
    rows = [float(of_r) * r + float(of_g) * g + float(of_b) * b for of_r, of_g, of_b in _XYZ_FROM_RGB]
    xyz = torch.stack([row / float(white) for row, white in zip(rows, _WHITE, strict=True)])
    x, y, z = torch.where(xyz > _KNEE, xyz.pow(1 / 3), _SLOPE * xyz + _OFFSET)
    lab = torch.stack((116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)), 1)
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
