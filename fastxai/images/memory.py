"""Pictures in memory -> entries: PIL images, arrays, tensors.

Ids are decimal numbers, zero-padded so that they sort: "0".."9", "00".."99". Workers may read at any time, so what
is given must not be changed during a run; a PIL image is read by one worker at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.images.entry import Entry, Label, Raw, Source, digest


@dataclass(frozen=True, slots=True)
class MemoryEntry(Entry):
    """A picture in memory: PIL image, uint8 [H, W, C], or tensor [C, H, W]."""

    picture: Any
    normalized: bool
    lock: AbstractContextManager[Any]

    def read(self) -> Raw:
        return as_raw(self.picture, self.normalized, self.lock)


def open_tensor(images: torch.Tensor, labels: Sequence[Label] | None, normalized: bool) -> Source:
    """Tensor [N, C, H, W] or [C, H, W]: uint8, or float in [0, 1]; with `normalized` float model input."""
    if images.ndim not in (3, 4):
        raise ArgumentError(f"images must be a tensor [N, 3, H, W] or [3, H, W], got shape {tuple(images.shape)}")
    images = images.detach()
    images = images if images.ndim == 4 else images[None]
    _check_tensor(images[0] if len(images) else torch.zeros(3, 1, 1), normalized)
    if images.is_floating_point() and not normalized:
        _check_unit_range(images)
    _, channels, height, width = images.shape
    source = _memory(list(images), labels, normalized)
    return Source(source, normalized=normalized, shape=(channels, height, width))


def open_array(images: np.ndarray, labels: Sequence[Label] | None) -> Source:
    """uint8 [N, H, W, 3], [H, W, 3] or [H, W]; 1 or 4 channels (the fourth is opacity) work too."""
    if images.ndim == 4:
        pictures = list(images)
        if pictures:
            _check_array(pictures[0])
    else:
        _check_array(images)
        pictures = [images]
    return _memory(pictures, labels, False)


def open_pictures(images: Sequence[Any], labels: Sequence[Label] | None, normalized: bool) -> Source:
    """A list of PIL images, uint8 arrays [H, W, 3] and tensors [3, H, W], of any sizes."""
    for picture in images:
        if isinstance(picture, torch.Tensor):
            _check_tensor(picture, normalized)
            if picture.is_floating_point() and not normalized:
                _check_unit_range(picture)
        elif normalized:
            raise ArgumentTypeError(f"images must be float tensors with normalized=True, got {type(picture).__name__}")
        elif isinstance(picture, np.ndarray):
            _check_array(picture)
        elif not isinstance(picture, Image.Image):
            raise ArgumentTypeError(
                f"images must be a list of paths, or of PIL images, arrays and tensors, got {type(picture).__name__}"
            )
    return _memory(images, labels, normalized)


def _memory(pictures: Sequence[Any], labels: Sequence[Label] | None, normalized: bool) -> Source:
    lock = threading.RLock()  # one PIL image may stand in the list twice, and loading it is not thread-safe
    names, given = numbered(len(pictures), labels)
    entries = (MemoryEntry(id, given[i], pictures[i], normalized, lock) for i, id in enumerate(names))
    return Source(entries, normalized=normalized)


def numbered(count: int, labels: Sequence[Label] | None) -> tuple[list[str], Sequence[Label]]:
    """An id for each of `count` pictures, and their labels: those given, or none."""
    if count == 0:
        raise ArgumentError("images must hold at least one picture, got none")
    if labels is not None and len(labels) != count:
        raise ArgumentError(f"labels must be one per image ({count}), got {len(labels)}")
    width = len(str(count - 1))
    return [f"{i:0{width}d}" for i in range(count)], labels if labels is not None else [None] * count


def as_raw(picture: Any, normalized: bool, lock: AbstractContextManager[Any]) -> Raw:
    """A picture as it came, with its digest.

    Float in [0, 1] becomes uint8 by rounding x * 255; tensors [C, H, W] become arrays [H, W, C].
    """
    if isinstance(picture, Image.Image):
        with lock:
            picture.load()
            return Raw(picture, digest(picture))
    if isinstance(picture, torch.Tensor):
        _check_tensor(picture, normalized)
        array = picture.detach().cpu()
        if normalized:
            ready = np.ascontiguousarray(array.to(torch.float32).numpy())
            return Raw(ready, digest(ready))
        if array.is_floating_point():
            _check_unit_range(array)
            numbers = np.rint(array.to(torch.float32).numpy() * np.float32(255)).astype(np.uint8)
        else:
            numbers = array.numpy()
        pixels = np.ascontiguousarray(numbers.transpose(1, 2, 0))
        return Raw(pixels, digest(pixels))
    if isinstance(picture, np.ndarray) and not normalized:
        _check_array(picture)
        pixels = np.ascontiguousarray(picture)
        return Raw(pixels, digest(pixels))
    wanted = "float tensors" if normalized else "PIL images, uint8 arrays or tensors"
    raise ArgumentTypeError(f"images must be {wanted}, got {type(picture).__name__}")


def _check_array(picture: np.ndarray) -> None:
    if picture.dtype != np.uint8:
        raise ArgumentError(
            f"images must be uint8 as arrays, got {picture.dtype}: convert to 0..255, or pass a tensor [N, 3, H, W]"
        )
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] not in (1, 3, 4)):
        raise ArgumentError(
            f"images must be arrays [N, H, W, 3] or [H, W, 3], got {picture.shape} (channels last, for one picture)"
        )
    if 0 in picture.shape:
        raise ArgumentError(f"images must have at least one pixel, got shape {picture.shape}")


def _check_tensor(picture: torch.Tensor, normalized: bool) -> None:
    if picture.ndim != 3 or 0 in picture.shape:
        raise ArgumentError(f"images must be tensors [3, H, W] each, got shape {tuple(picture.shape)}")
    if normalized:
        if not picture.is_floating_point():
            raise ArgumentError(f"images must be float tensors with normalized=True, got {picture.dtype}")
        return
    if picture.dtype != torch.uint8 and not picture.is_floating_point():
        raise ArgumentError(f"images must be uint8, or float in [0, 1], as tensors, got {picture.dtype}")
    if picture.shape[0] not in (1, 3, 4):
        raise ArgumentError(f"images must be tensors [N, 3, H, W] (channels first), got {tuple(picture.shape)} for one")


def _check_unit_range(images: torch.Tensor) -> None:
    if images.numel() == 0:
        return
    low, high = float(images.min()), float(images.max())
    if not (low >= 0.0 and high <= 1.0):  # so that NaN fails too
        raise ArgumentError(
            f"images must lie in [0, 1] as a float tensor, got {low:g}..{high:g}: divide by 255, or say"
            " normalized=True for ready model input"
        )
