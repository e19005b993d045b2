"""Arrays as short text inside a page: pictures and maps as WebP, labels and masks as packed bytes, all in base64.

The page's script undoes each of these (`page/core.js`); labels, masks and numbers come back exactly.
"""

from __future__ import annotations

import base64
import io
import zlib

import numpy as np
from PIL import Image

LARGEST = 16_383  # pixels a side of a WebP file


def text(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode("ascii")


def webp(picture: np.ndarray, quality: int) -> str:
    """uint8 RGB [H, W, 3] or grey [H, W] as a lossy WebP file."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).convert("RGB").save(file, "webp", quality=quality, method=2)
    return text(file.getvalue())


def shrunk(picture: np.ndarray, side: int) -> np.ndarray:
    """uint8 [H, W] or [H, W, 3] made smaller, smoothly, until no side is longer than `side`."""
    height, width = small_size((picture.shape[0], picture.shape[1]), side)
    if (height, width) == picture.shape[:2]:
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))


def thinned(values: np.ndarray, side: int) -> np.ndarray:
    """Labels or a mask [H, W] made smaller by leaving rows and columns out: nothing new appears between two labels."""
    height, width = small_size((values.shape[0], values.shape[1]), side)
    rows = ((np.arange(height) + 0.5) * values.shape[0] / height).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * values.shape[1] / width).astype(np.intp)
    return values[np.ix_(rows, columns)]


def small_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """H, W in the same proportion with no side longer than `side`; never enlarged, never below one pixel."""
    share = min(1.0, side / max(size))
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def labels(values: np.ndarray) -> str:
    """Labels [H, W] below 65,536: differences to the row above, low bytes before high ones, deflated.

    Superpixels repeat the row above nearly everywhere, so that this takes about a tenth of a bit a pixel.
    """
    steps = values.astype("<u2")
    steps[1:] -= values[:-1].astype("<u2")  # wraps around, and back again when it is undone
    planes = steps.view(np.uint8).reshape(values.size, 2).T
    return text(zlib.compress(planes.tobytes(), 9))


def bits(mask: np.ndarray) -> str:
    """A mask bool [H, W], eight pixels a byte in raster order, first pixel in the highest bit, deflated."""
    return text(zlib.compress(np.packbits(mask).tobytes(), 9))


def numbers(values: np.ndarray) -> str:
    """float32, little-endian; NaN stays NaN."""
    return text(np.ascontiguousarray(values, dtype="<f4").tobytes())
