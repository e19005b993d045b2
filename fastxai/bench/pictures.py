"""The pictures that are explained, as files on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fastxai.errors import ArgumentError, ImageError
from fastxai.images import load_batches, open_source
from fastxai.types import Preprocess, Status

SIDE = 288  # of a crop: the smallest of the four is 300 high
MOST = 8000  # crops: half of what the smallest picture has room for
BUILT_IN = "crops of chelsea, coffee, rocket and astronaut (scikit-image)"


def put_pictures(folder: Path, count: int, images: Any = None) -> tuple[list[Path], int]:
    """Write `count` picture files into `folder`: their paths, and how many of them are distinct.

    images: whatever `fastxai.run` takes that is in files; they are copied byte by byte, over again where there are
    fewer than `count`. None: crops of 288 x 288 of the four photographs that scikit-image ships, each from another
    place, as JPEG of quality 95. `ArgumentError` where a file cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if images is None:
        paths = []
        for number, pixels in enumerate(crops(count)):
            paths.append(folder / f"{number:05d}.jpg")
            Image.fromarray(pixels).save(paths[-1], quality=95)
        return paths, count
    return _copy(folder, count, images)


def crops(count: int) -> list[NDArray[np.uint8]]:
    """`count` distinct crops uint8 [288, 288, 3] of four photographs, the same in every call."""
    from skimage import data

    if count > MOST:
        raise ArgumentError(f"images must be at most {MOST} of the built-in pictures, got {count}: name IMAGES")
    photographs = (data.cat(), data.coffee(), data.rocket(), data.astronaut())
    generator = np.random.default_rng(0)
    seen: set[bytes] = set()
    found: list[NDArray[np.uint8]] = []
    while len(found) < count:
        picture = photographs[len(found) % len(photographs)]
        top, left = (int(generator.integers(0, length - SIDE + 1)) for length in picture.shape[:2])
        crop = np.ascontiguousarray(picture[top : top + SIDE, left : left + SIDE])
        name = hashlib.blake2b(crop.tobytes()).digest()
        # The smallest picture has 2,132 places: a place that was taken gives a mirrored crop.
        if name in seen:
            crop = np.ascontiguousarray(crop[:, ::-1])
            name = hashlib.blake2b(crop.tobytes()).digest()
            if name in seen:
                continue
        seen.add(name)
        found.append(crop)
    return found


def _copy(folder: Path, count: int, images: Any) -> tuple[list[Path], int]:
    source = open_source(images)
    if not len(source):
        raise ArgumentError("IMAGES must name at least one picture, got none")
    paths: list[Path] = []
    seen: set[str] = set()
    for number in range(count):
        entry = source[number % len(source)]
        try:
            raw = entry.read()
        except ImageError as error:
            raise ArgumentError(f"IMAGES must be readable, got {entry.id}: {error}") from error
        if not isinstance(raw.data, bytes):
            raise ArgumentError(f"IMAGES must be files, got {type(raw.data).__name__}")
        seen.add(raw.digest)
        paths.append(folder / f"{number:05d}{Path(entry.id).suffix.lower()}")
        paths[-1].write_bytes(raw.data)
    return paths, len(seen)


def decoded(paths: Sequence[Path], preprocess: Preprocess) -> Tensor:
    """The pictures as a model sees them, uint8 [N, C, H, W]; `ArgumentError` names one that cannot be decoded."""
    batches = list(load_batches(open_source([str(path) for path in paths]), preprocess, batch=64))
    for batch in batches:
        for name, status, error in zip(batch.ids, batch.status, batch.errors, strict=True):
            if status is not Status.OK:
                raise ArgumentError(f"IMAGES must be pictures that can be read, got {name}: {error}")
    return torch.cat([batch.pixels for batch in batches])
