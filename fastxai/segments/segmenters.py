"""Superpixels as scikit-image makes them, and a plain grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from fastxai import ops
from fastxai.config import check_float, check_int
from fastxai.errors import ArgumentError
from fastxai.segments.base import Segmenter

Labelled = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Quickshift(Segmenter):
    """Quickshift (Vedaldi and Soatto, "Quick Shift and Kernel Methods for Mode Seeking", 2008) in Lab + position.

    Labels are those of scikit-image. The defaults are those of the `lime` package. kernel_size in pixels, max_dist in
    the joint colour-position space, ratio weighs colour against position. Ties are broken by noise under
    scikit-image's own seed, 42.
    """

    method: ClassVar[str] = "quickshift"
    kernel_size: float = 4
    max_dist: float = 200
    ratio: float = 0.2

    def __post_init__(self) -> None:
        check_float("kernel_size", self.kernel_size, 1)
        check_float("max_dist", self.max_dist, 0, above=True)
        check_float("ratio", self.ratio, 0, high=1)

    def label(self, picture: NDArray[np.uint8], image_id: str) -> Labelled:
        pictures = _one(picture)
        found = ops.quickshift(pictures, kernel_size=self.kernel_size, max_dist=self.max_dist, ratio=self.ratio)
        labels: Labelled = found[0].numpy()
        return labels


@dataclass(frozen=True)
class Slic(Segmenter):
    """SLIC (Achanta et al., "SLIC Superpixels", 2012): k-means in Lab + position, connected.

    segments: how many are aimed at; compactness weighs position against colour; sigma: blur first, in pixels.
    """

    method: ClassVar[str] = "slic"
    segments: int = 100
    compactness: float = 10.0
    sigma: float = 0.0

    def __post_init__(self) -> None:
        check_int("segments", self.segments, 1)
        check_float("compactness", self.compactness, 0, above=True)
        check_float("sigma", self.sigma, 0)

    def label(self, picture: NDArray[np.uint8], image_id: str) -> Labelled:
        found = ops.slic(_one(picture), segments=self.segments, compactness=self.compactness, sigma=self.sigma)
        labels: Labelled = found[0].numpy()
        return labels


@dataclass(frozen=True)
class Felzenszwalb(Segmenter):
    """Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation", 2004.

    scale: larger means larger segments; sigma: blur first, in pixels; min_size in pixels.
    """

    method: ClassVar[str] = "felzenszwalb"
    scale: float = 100.0
    sigma: float = 0.5
    min_size: int = 50

    def __post_init__(self) -> None:
        check_float("scale", self.scale, 0, above=True)
        check_float("sigma", self.sigma, 0)
        check_int("min_size", self.min_size, 1)

    def label(self, picture: NDArray[np.uint8], image_id: str) -> Labelled:
        from skimage.segmentation import felzenszwalb

        labels: Labelled = felzenszwalb(picture, scale=self.scale, sigma=self.sigma, min_size=self.min_size)
        return labels


@dataclass(frozen=True)
class Grid(Segmenter):
    """A regular grid of rows x columns cells, as even as the picture's size allows."""

    method: ClassVar[str] = "grid"
    rows: int = 7
    columns: int = 7

    def __post_init__(self) -> None:
        check_int("rows", self.rows, 1)
        check_int("columns", self.columns, 1)

    def settle(self, ids: Sequence[str], size: tuple[int, int]) -> Segmenter:
        if self.rows > size[0] or self.columns > size[1]:
            raise ArgumentError(
                f"grid must have at most {size[0]} rows and {size[1]} columns here, got {self.rows} x {self.columns}"
            )
        return self

    def label(self, picture: NDArray[np.uint8], image_id: str) -> Labelled:
        height, width = picture.shape[:2]
        down = np.arange(height) * self.rows // height
        across = np.arange(width) * self.columns // width
        return (down[:, None] * self.columns + across[None, :]).astype(np.int32)


def _one(picture: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 [H, W, 3] as a batch of one, uint8 [1, 3, H, W]."""
    return torch.from_numpy(np.array(picture.transpose(2, 0, 1), order="C"))[None]
