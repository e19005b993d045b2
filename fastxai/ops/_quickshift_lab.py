"""sRGB bytes -> CIE Lab in float64, as scikit-image converts them."""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Rows X, Y, Z; columns R, G, B; and the white point D65 of the 2 degree observer, as in skimage.color.
_XYZ_FROM_RGB = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])
_KNEE, _SLOPE, _OFFSET = 0.008856, 7.787, 16.0 / 116.0  # below the knee the cube root is replaced by a line


def lab(pictures: Tensor) -> Tensor:
    """pictures uint8 [B, 3, H, W] -> L, a, b float64 [B, 3, H, W] on the same device.

    On the CPU the same numpy calls as in scikit-image, on arrays of the same shape, give the same bits. That is worth
    having: two candidates for a parent may be equally far but for rounding, and the order decides. Elsewhere the
    numbers agree to 1e-12.
    """
    if pictures.device.type != "cpu":
        return _on_device(pictures)
    found = np.empty(pictures.shape)
    for picture, out in zip(pictures.numpy(), found, strict=True):
        _convert(picture, out)
    return torch.from_numpy(found)


@functools.lru_cache(maxsize=1)
def _linear() -> NDArray[np.float64]:
    """What the bytes 0..255 are in linear light: 256 powers instead of three a pixel."""
    level = np.arange(256) * (1.0 / 255)
    table = np.where(level > 0.04045, np.power((level + 0.055) / 1.055, 2.4), level / 12.92)
    table.flags.writeable = False
    return table


def _convert(picture: NDArray[np.uint8], out: NDArray[np.float64]) -> None:
    """One picture uint8 [3, H, W] into out [3, H, W]."""
    xyz = _linear().take(np.ascontiguousarray(picture.transpose(1, 2, 0))) @ _XYZ_FROM_RGB.T
    xyz /= _WHITE
    root = np.cbrt(xyz)
    low = xyz <= _KNEE
    root[low] = _SLOPE * xyz[low] + _OFFSET
    x, y, z = np.moveaxis(root, -1, 0)
    np.subtract(116.0 * y, 16.0, out=out[0])
    np.multiply(500.0, x - y, out=out[1])
    np.multiply(200.0, y - z, out=out[2])


def _on_device(pictures: Tensor) -> Tensor:
    red, green, blue = torch.tensor(_linear(), device=pictures.device)[pictures.int()].unbind(1)
    rows = _XYZ_FROM_RGB / _WHITE[:, None]
    xyz = torch.stack([float(r) * red + float(g) * green + float(b) * blue for r, g, b in rows])
    x, y, z = torch.where(xyz > _KNEE, xyz.pow(1 / 3), _SLOPE * xyz + _OFFSET)
    return torch.stack((116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)), 1)
