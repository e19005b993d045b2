"""What kind of picture an image is, in single numbers that need no model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

TRAITS = {
    "edge_density": "edge density",
    "colour_entropy": "colour entropy",
    "segments": "segments",
    "confidence": "confidence",
}
_LEVELS = 8  # of a channel: 512 colours
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def edge_density(pixels: Tensor) -> float:
    """Share of the pixels of a picture, uint8 [C, H, W], that lie on an edge.

    Edges are those of Canny's detector ("A Computational Approach to Edge Detection", 1986) on luma in [0, 1], as
    scikit-image finds them by default (sigma 1, thresholds 0.1 and 0.2 of the range).
    """
    from skimage.feature import canny

    return float(canny(_luma(pixels), sigma=1.0, low_threshold=0.1, high_threshold=0.2).mean())


def colour_entropy(pixels: Tensor) -> float:
    """Shannon entropy, in bits, of the colours of a picture, uint8 [C, H, W]; each channel is cut to 8 levels.

    0 for a picture of one colour, at most 9 for three channels.
    """
    levels = (pixels.numpy().astype(np.int64) * _LEVELS) // 256
    codes = np.zeros(levels.shape[1:], dtype=np.int64)
    for channel in levels[:3]:
        codes = codes * _LEVELS + channel
    shares = np.bincount(codes.ravel()) / codes.size
    shares = shares[shares > 0]
    return abs(float((shares * np.log2(shares)).sum()))  # abs: -0.0 where there is one colour


def _luma(pixels: Tensor) -> NDArray[np.float64]:
    values = pixels.numpy().astype(np.float64) / 255
    grey: NDArray[np.float64] = np.tensordot(_LUMA, values[:3], axes=1) if len(values) >= 3 else values[0]
    return grey
