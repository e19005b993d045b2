"""A model's geometry applied to a picture: resize, centre crop, and where the crop lies on the original.

By pixel what torchvision's Resize and CenterCrop do with PIL images: the shorter side becomes `resize`, the longer
int(resize * long / short); a crop that is larger than the picture is padded with black.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from fastxai.config import check_choice
from fastxai.types import Preprocess

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "nearest-exact": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
_LARGE = 1 << 26  # pixels; above, the resized picture is not made as a whole


@dataclass(frozen=True)
class Placed:
    """A picture as the model sees it: uint8 [C, H, W], and where that lies on the original.

    crop: float32 [4], left, top, right, bottom in pixels of the upright original; outside of it where padded.
    """

    pixels: np.ndarray
    crop: np.ndarray


def apply_geometry(picture: Image.Image, preprocess: Preprocess) -> Placed:
    """`picture`, upright and in mode L or RGB, in the model's size.

    A picture so long and thin that resizing it would take gigabytes (1 x 100,000 pixels) is resized only where the crop
    falls, which is the same up to rounding.
    """
    resample = RESAMPLING[check_choice("interpolation", preprocess.interpolation, tuple(RESAMPLING))]
    height, width = resized_size((picture.height, picture.width), preprocess.resize)
    rows, columns = _Span.centred(preprocess.size[0], height), _Span.centred(preprocess.size[1], width)
    y, x = picture.height / height, picture.width / width  # original pixels per resized pixel
    seen = (columns.first, rows.first, columns.last, rows.last)
    if height * width > _LARGE:
        box = (columns.first * x, rows.first * y, columns.last * x, rows.last * y)
        cut = picture.resize((columns.last - columns.first, rows.last - rows.first), resample, box=box)
    else:
        whole = picture if (width, height) == picture.size else picture.resize((width, height), resample)
        cut = whole.crop(seen)
    channels = len(picture.getbands())
    pixels = np.zeros((channels, *preprocess.size), np.uint8)
    inside = pixels[:, rows.pad : rows.pad + cut.height, columns.pad : columns.pad + cut.width]
    inside[...] = np.asarray(cut).reshape(cut.height, cut.width, channels).transpose(2, 0, 1)
    left, top = columns.first - columns.pad, rows.first - rows.pad
    crop = (left * x, top * y, (left + preprocess.size[1]) * x, (top + preprocess.size[0]) * y)
    return Placed(pixels, np.array(crop, np.float32))


def resized_size(size: tuple[int, int], resize: int | tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) after the resize."""
    height, width = size
    if resize is None:
        return size
    if not isinstance(resize, int):
        return resize[0], resize[1]
    if width <= height:
        return int(resize * height / width), resize
    return resize, int(resize * width / height)


@dataclass(frozen=True)
class _Span:
    """A centred crop along one side: pixels first..last of the picture are seen, after `pad` black ones."""

    first: int
    last: int
    pad: int

    @classmethod
    def centred(cls, crop: int, length: int) -> _Span:
        if crop > length:
            return cls(0, length, (crop - length) // 2)
        first = round((length - crop) / 2.0)  # half to even, as torchvision's
        return cls(first, first + crop, 0)
