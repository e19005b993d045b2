"""Map-style data sets (`torch.utils.data.Dataset` and alike) -> entries; their items are fetched when they are needed.

Ids are decimal numbers, zero-padded so that they sort. Items are images, (image, label, ...) or {"image": ...,
"label": ...}. Without workers one item is fetched at a time, because `__getitem__` of most data sets is not made for
threads; with workers, processes of torch's `DataLoader` fetch them ahead, in order.
"""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from fastxai.errors import ArgumentError, CannotRun, ImageError
from fastxai.images.entry import Entry, Label, Raw, Source
from fastxai.images.memory import as_raw, numbered

AHEAD = 4  # items fetched ahead by each worker


@dataclass(frozen=True, slots=True)
class DatasetEntry(Entry):
    """Item `index` of a data set."""

    dataset: Any
    index: int
    normalized: bool
    lock: AbstractContextManager[Any]

    def read(self) -> Raw:
        try:
            with self.lock:
                item: Any = self.dataset[self.index]
        except Exception as error:  # the caller's code: whatever it raises is this image's trouble only
            raise ImageError(f"data set item cannot be had: {type(error).__name__}: {error}") from error
        picture, label = _parts(item)
        try:
            raw = as_raw(picture, self.normalized, self.lock)
        except ArgumentError as error:
            raise ImageError(f"data set item: {error}") from error
        return Raw(raw.data, raw.digest, self.label if self.label is not None else label)


def open_dataset(images: Any, labels: Sequence[Label] | None, normalized: bool, workers: int) -> Source:
    """A map-style data set. Labels that are numbers are class ids; `labels`, where given, count more than its own."""
    lock = threading.RLock()
    names, given = numbered(len(images), labels)
    entries = [DatasetEntry(id, given[i], images, i, normalized, lock) for i, id in enumerate(names)]
    return FetchedSource(entries, workers, normalized) if workers else Source(entries, normalized=normalized)


def _parts(item: Any) -> tuple[Any, Label]:
    """The picture and the label of an item; what is no class id and no name is no label."""
    label = None
    if isinstance(item, Mapping):
        item, label = item.get("image"), item.get("label")
    elif isinstance(item, (tuple, list)) and item:
        item, label = item[0], item[1] if len(item) > 1 else None
    if isinstance(label, (np.generic, np.ndarray, torch.Tensor)):
        count = label.numel() if isinstance(label, torch.Tensor) else label.size
        label = label.item() if count == 1 else None
    return item, label if isinstance(label, (int, str)) else None


class FetchedSource(Source):
    """A data set whose items are fetched by `workers` processes, for as long as someone goes through them."""

    def __init__(self, entries: Iterable[DatasetEntry], workers: int, normalized: bool) -> None:
        super().__init__(entries, normalized=normalized)
        self.workers = workers

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Source: ...
    def __getitem__(self, index: int | slice) -> Entry | Source:
        return self._of(self.entries[index]) if isinstance(index, slice) else self.entries[index]

    def only(self, take: Callable[[str], bool]) -> Source:
        return self._of(entry for entry in self.entries if take(entry.id))

    def _of(self, entries: Iterable[Any]) -> FetchedSource:
        return FetchedSource(entries, self.workers, self.normalized)

    def stream(self) -> Iterator[Entry]:
        entries: list[Any] = self.entries
        if not entries:
            return
        loader: DataLoader[bytes] = DataLoader(
            _Items(entries[0].dataset, self.normalized),
            sampler=[entry.index for entry in entries],
            batch_size=None,
            num_workers=min(self.workers, len(entries)),
            collate_fn=_as_it_is,
            prefetch_factor=AHEAD,
        )
        try:  # the workers end with this loop, also where nobody wants the rest
            for entry, answer in zip(entries, loader, strict=True):
                yield FetchedEntry(entry.id, entry.label, answer)
        except RuntimeError as error:  # torch's way to say that a process is gone
            reason = " ".join(str(error).split())[:300]
            raise CannotRun(f"a process that fetches items of the data set ended: {reason}") from error
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise CannotRun(f"the data set cannot be handed to workers: {error}; use workers=0") from error


@dataclass(frozen=True, slots=True)
class FetchedEntry(Entry):
    """An item that a worker has fetched: a pickled `Raw`, or in words why there is none."""

    answer: bytes | str

    def read(self) -> Raw:
        if isinstance(self.answer, str):
            raise ImageError(self.answer)
        raw: Raw = pickle.loads(self.answer)  # by our own worker, of what the caller's data set made
        return Raw(raw.data, raw.digest, self.label if self.label is not None else raw.label)


class _Items(Dataset[Any]):
    """What workers fetch. Bytes, because a worker whose answer cannot be pickled would keep silent for ever."""

    def __init__(self, dataset: Any, normalized: bool) -> None:
        self.dataset, self.normalized = dataset, normalized

    def __getitem__(self, index: int) -> bytes | str:
        entry = DatasetEntry("", None, self.dataset, index, self.normalized, contextlib.nullcontext())
        try:
            return pickle.dumps(entry.read())
        except ImageError as error:
            return str(error)
        except Exception as error:
            return f"data set item cannot be handed over: {type(error).__name__}: {error}"


def _as_it_is(item: Any) -> Any:
    return item
