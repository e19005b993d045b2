"""sRGB bytes -> CIE Lab in float64, as scikit-image converts them."""

from __future__ import annotations

import functools
from typing import Any

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

    The bits of scikit-image on the CPU; elsewhere the numbers agree to 1e-11.
    """
    if pictures.device.type != "cpu":
        return lab_with_torch(pictures, torch.tensor(light_of_bytes(), device=pictures.device))
    found = np.empty(pictures.shape)
    for picture, out in zip(pictures.numpy(), found, strict=True):
        lab_with_numpy(picture, light_of_bytes(), out)
    return torch.from_numpy(found)


def linear(level: Any) -> Any:
    """sRGB levels of 0..1 -> linear light: float64 [...], of numpy or of torch."""
    where = torch.where if isinstance(level, Tensor) else np.where
    return where(level > 0.04045, ((level + 0.055) / 1.055) ** 2.4, level / 12.92)


@functools.lru_cache(maxsize=1)
def light_of_bytes() -> NDArray[np.float64]:
    """What the bytes 0..255 are in linear light: float64 [256]."""
    table: NDArray[np.float64] = linear(np.arange(256) * (1.0 / 255))
    table.flags.writeable = False
    return table


def lab_with_numpy(picture: NDArray[np.uint8], light: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """One picture uint8 [3, H, W] into out [3, H, W]; light [256]: what its bytes are in linear light.

    The same numpy calls as in scikit-image, on arrays of the same shape, give the same bits. That is worth having: two
    places may be equally far but for rounding, and the order decides. The table spares three powers a pixel.
    """
    xyz = light.take(np.ascontiguousarray(picture.transpose(1, 2, 0))) @ _XYZ_FROM_RGB.T
    xyz /= _WHITE
    root = np.cbrt(xyz)
    low = xyz <= _KNEE
    root[low] = _SLOPE * xyz[low] + _OFFSET
    x, y, z = np.moveaxis(root, -1, 0)
    np.subtract(116.0 * y, 16.0, out=out[0])
    np.multiply(500.0, x - y, out=out[1])
    np.multiply(200.0, y - z, out=out[2])


def lab_with_torch(pictures: Tensor, light: Tensor) -> Tensor:
    """pictures uint8 [B, 3, H, W] -> float64 [B, 3, H, W] on any device; light [256], or [B, 256] for each picture.

    Numpy's matrix product multiplies and adds with one rounding, and its cube root is nearly always the closest number.
    Both are followed here, so that 99% of the numbers have its bits; with torch's own, two in three had, and of 48
    photographs one or two came out with other labels of quickshift.
    """
    batch, level = len(pictures), pictures.flatten(2).long()
    matrix, white = (torch.tensor(numbers, device=pictures.device) for numbers in (_XYZ_FROM_RGB, _WHITE[:, None]))
    light = light.expand(batch, 256)[:, None]
    xyz = light.new_zeros(())
    for channel in range(3):
        tables = _product(matrix[:, channel, None], light)  # [B, 3, 256] each
        where = level[:, channel, None].expand(-1, 3, -1)
        product, rest = (table.gather(2, where) for table in tables)
        total = xyz + product
        back = total - xyz
        xyz = total + ((xyz - (total - back)) + (product - back) + rest)
    xyz = xyz / white
    x, y, z = (
        torch.where(xyz > _KNEE, _cube_root(xyz), _SLOPE * xyz + _OFFSET).view(batch, 3, *pictures.shape[2:]).unbind(1)
    )
    return torch.stack((116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)), 1)


def _product(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """a * b rounded, and what the rounding took away: exact together (Dekker 1971)."""
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    rounded = a * b
    return rounded, ((a_high * b_high - rounded) + a_high * b_low + a_low * b_high) + a_low * b_low


def _halves(number: Tensor) -> tuple[Tensor, Tensor]:
    """Two numbers of 26 bits whose sum is the number."""
    far = (2.0**27 + 1.0) * number
    high = far - (far - number)
    return high, number - high


def _cube_root(number: Tensor) -> Tensor:
    """Of numbers above 1e-9: torch's power, which is an ulp off, and a step of Newton with an exact remainder."""
    root = number.clamp_min(1e-9) ** (1 / 3)
    square, rest = _product(root, root)
    cube, more = _product(square, root)
    return root + ((number - cube) - more - rest * root) / (3.0 * square)
