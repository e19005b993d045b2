"""Open shards: a few at a time, checked once each, safe for threads."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fastxai.errors import SchemaError
from fastxai.store.dataset import TEXT, DataSet, padding
from fastxai.store.guard import ShardFile, attribute, has, inside, open_shard, read_slice
from fastxai.store.layout import Layout
from fastxai.store.names import ENTRY

_OPEN = 16  # files kept open


class Handles:
    """Reads rows of shards. Files are opened when needed; the least recently used one is closed."""

    def __init__(self, shards: Sequence[ShardFile], layout: Layout, config_digest: str) -> None:
        self.shards = list(shards)
        self._layout, self._digest = layout, config_digest
        self._open: OrderedDict[int, tuple[h5py.File, dict[str, h5py.Dataset | None]]] = OrderedDict()
        self._images: dict[int, int] = {}  # of shards that have been opened
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close all files; they open again when needed."""
        with self._lock:
            while self._open:
                self._open.popitem()[1][0].close()

    def file(self, shard: int) -> h5py.File:
        return self._entry(shard)[0]

    def _entry(self, shard: int) -> tuple[h5py.File, dict[str, h5py.Dataset | None]]:
        if shard not in self._open:
            while len(self._open) >= _OPEN:
                self._open.popitem(last=False)[1][0].close()
            self._open[shard] = (open_shard(self.shards[shard].path, self._digest), {})
        self._open.move_to_end(shard)
        return self._open[shard]

    def dataset(self, shard: int, spec: DataSet) -> h5py.Dataset | None:
        """The data set, checked; None where the shard does not have it."""
        file, known = self._entry(shard)
        if spec.path not in known:
            path = f"{ENTRY}/{spec.path}"
            known[spec.path] = inside(file, path) if has(file, path) else None
            if known[spec.path] is not None:
                if shard not in self._images:
                    self._images[shard] = attribute(file[ENTRY], "images")
                self._layout.check(known[spec.path], spec, self._images[shard])
        return known[spec.path]

    def gather(self, spec: DataSet, shard: NDArray[np.int32], row: NDArray[np.int32]) -> NDArray[Any] | None:
        """Rows (shard[i], row[i]) of a data set, in that order; None where the shards do not have it.

        Ragged rows are padded to the longest shard among them; text stays UTF-8 bytes.
        """
        with self._lock:
            shapes, dtypes = [], []
            for number in np.unique(shard).tolist():
                dataset = self.dataset(number, spec)
                if dataset is None:
                    return None
                shapes.append(dataset.shape[1:])
                dtypes.append(dataset.dtype)
            shape = tuple(max(lengths) for lengths in zip(*shapes, strict=True)) if len(shapes) > 1 else shapes[0]
            dtype = max(dtypes, key=lambda kind: kind.itemsize)
            # Lengths differ where segments do, and where every image of a shard failed before its maps had a size.
            fill = b"" if spec.dtype == TEXT else padding(dtype) if len(set(shapes)) > 1 else 0
            out = np.full((len(row), *shape), fill, dtype)
            for start, stop in consecutive(shard, row):
                dataset = self.dataset(int(shard[start]), spec)
                assert dataset is not None
                first = int(row[start])
                if not 0 <= first <= first + stop - start <= len(dataset):
                    raise SchemaError(f"{dataset.file.filename} has {len(dataset)} rows, row {first} was asked for")
                values = read_slice(dataset, first, first + stop - start)
                out[(slice(start, stop), *(slice(0, length) for length in values.shape[1:]))] = values
            return out


def consecutive(shard: NDArray[np.int32], row: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Cut positions into stretches that lie one behind the other in one shard."""
    breaks = np.flatnonzero((np.diff(shard) != 0) | (np.diff(row) != 1)) + 1
    edges = [0, *breaks.tolist(), len(row)]
    return [(start, stop) for start, stop in itertools.pairwise(edges) if stop > start]
