"""Whatever a caller calls "images" -> a `Source`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.images.entry import Label, Source, is_pathlike
from fastxai.images.memory import open_array, open_dataset, open_pictures, open_tensor
from fastxai.images.paths import open_paths

_WANTED = "paths, PIL images, a uint8 array [N, H, W, 3], a tensor [N, 3, H, W] or a map-style data set"


def open_source(images: Any, *, labels: Sequence[Label] | Any = None, normalized: bool = False) -> Source:
    """The pictures that `images` names, not yet read.

    images:
      - a path or a list of paths: files, folders (with all below them), globs, `.txt` and `.csv` lists (`read_list`);
      - PIL images, uint8 arrays [H, W, 3], tensors [3, H, W], or a list of them;
      - a uint8 array [N, H, W, 3]; a tensor [N, 3, H, W], uint8 or float in [0, 1] (rounded to x * 255), or float
        of the model's own size with `normalized`;
      - anything with `__len__` and `__getitem__` that gives images or (image, label) pairs.
    labels: class ids, or class names, one per image (for files: one per file); otherwise they come from folders,
      lists and data sets.
    normalized: `images` is ready model input, nothing is left to resize, crop or normalise.

    Raises `ArgumentError` for what is missing, empty, or of the wrong type or shape.
    """
    if isinstance(images, Source):
        return images
    given = _labels(labels)
    if is_pathlike(images) or (isinstance(images, (list, tuple)) and images and all(map(is_pathlike, images))):
        if normalized:
            raise ArgumentError("normalized must be False for files, got True: it is for ready model input")
        paths = [os.fsdecode(path) for path in ([images] if is_pathlike(images) else images)]
        if given is not None and len(given) != len(paths):
            raise ArgumentError(f"labels must be one per file ({len(paths)}), got {len(given)}")
        return open_paths(paths, given)
    if isinstance(images, torch.Tensor):
        return open_tensor(images, given, normalized)
    if isinstance(images, np.ndarray) and not normalized:
        return open_array(images, given)
    if isinstance(images, (Image.Image, np.ndarray)):
        return open_pictures([images], given, normalized)
    if isinstance(images, (list, tuple)):
        return open_pictures(images, given, normalized)
    if hasattr(images, "__len__") and hasattr(images, "__getitem__") and not isinstance(images, Mapping):
        return open_dataset(images, given, normalized)
    raise ArgumentTypeError(f"images must be {_WANTED}, got {type(images).__name__}")


def _labels(labels: Any) -> list[Label] | None:
    if labels is None:
        return None
    if isinstance(labels, (np.ndarray, torch.Tensor)):
        if labels.ndim != 1:
            raise ArgumentError(f"labels must have shape [N], got {tuple(labels.shape)}")
        labels = labels.tolist()
    if isinstance(labels, str) or not isinstance(labels, Sequence):
        raise ArgumentTypeError(f"labels must be class ids or names, one per image, got {type(labels).__name__}")
    for label in labels:
        if label is not None and (
            isinstance(label, bool) or not (isinstance(label, str) or hasattr(label, "__index__"))
        ):
            raise ArgumentTypeError(f"labels must be class ids or names, got {label!r}")
    return list(labels)
