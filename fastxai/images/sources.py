"""Whatever a caller calls "images" -> a `Source`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset

from fastxai.config import check_int
from fastxai.errors import ArgumentError, ArgumentTypeError, CannotRun
from fastxai.images.datasets import open_dataset
from fastxai.images.entry import Label, Source, is_pathlike
from fastxai.images.memory import open_array, open_pictures, open_tensor
from fastxai.images.paths import open_paths
from fastxai.plugins import import_object, in_one_line, is_object

_WANTED = "paths, PIL images, a uint8 array [N, H, W, 3], a tensor [N, 3, H, W] or a map-style data set"


def open_source(
    images: Any, *, labels: Sequence[Label] | Any = None, normalized: bool = False, workers: int = 0
) -> Source:
    """The pictures that `images` names, not yet read.

    images:
      - a path or a list of paths: files, folders (with all below them), globs, `.txt` and `.csv` lists (`read_list`),
        tar shards in webdataset's layout (`shards/{000..012}.tar`, `shards/*.tar`: `tar_entries`);
      - PIL images, uint8 arrays [H, W, 3], tensors [3, H, W], or a list of them;
      - a uint8 array [N, H, W, 3]; a tensor [N, 3, H, W], uint8 or float in [0, 1] (rounded to x * 255), or float
        of the model's own size with `normalized`;
      - a map-style data set, such as a `torch.utils.data.Dataset` with `__len__`: items are images, (image, label)
        pairs, or {"image": ..., "label": ...};
      - "package.module:name", a data set or a function without arguments that makes one.
    labels: class ids, or class names, one per image (for files: one per file); otherwise they come from folders,
      lists and data sets.
    normalized: `images` is ready model input, nothing is left to resize, crop or normalise.
    workers: so many processes fetch the items of a data set (as `num_workers` of torch's `DataLoader`); with 0 this one
      does, an item at a time. Files need none: they are decoded by processes in any case.

    Raises `ArgumentError` for what is missing, empty, or of the wrong type or shape.
    """
    check_int("workers", workers, 0)
    if isinstance(images, Source):
        if workers:
            raise ArgumentError(f"workers must be 0 for a source that is open, got {workers}")
        return images
    given = _labels(labels)
    only = images[0] if isinstance(images, (list, tuple)) and len(images) == 1 else images
    if isinstance(only, str) and is_object(only) and not os.path.lexists(only):
        images = _imported(only)
    if _is_dataset(images):
        return open_dataset(images, given, normalized, workers)
    if workers:
        raise ArgumentError(f"workers must be 0 for what is no data set, got {workers}")
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
    raise ArgumentTypeError(f"images must be {_WANTED}, got {type(images).__name__}{_advice(images)}")


def _is_dataset(images: Any) -> bool:
    """Whether `images` is a map-style data set, and nothing plainer."""
    plain = (
        type,
        str,
        bytes,
        os.PathLike,
        list,
        tuple,
        Mapping,
        torch.Tensor,
        np.ndarray,
        Image.Image,
        IterableDataset,
    )
    return hasattr(images, "__len__") and hasattr(images, "__getitem__") and not isinstance(images, plain)


def _advice(images: Any) -> str:
    if isinstance(images, DataLoader):
        return ": give its data set, open_source(loader.dataset, workers=...)"
    if isinstance(images, IterableDataset):
        return ", which has no items by number: images are known by their ids"
    return ", which has no __len__" if hasattr(images, "__getitem__") and not isinstance(images, Mapping) else ""


def _imported(text: str) -> Any:
    found = import_object(text, "IMAGES", "files that exist or package.module:name", "a data set")
    if _is_dataset(found) or not callable(found):
        return found
    try:
        return found()
    except (ArgumentError, CannotRun):
        raise
    except Exception as error:
        raise CannotRun(f"{text} failed: {in_one_line(error)}") from error


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
