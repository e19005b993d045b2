"""Which row of which shard holds which image: the order of a run.

Run order: shards by worker (numbers as numbers), then by number; rows as they were written. Of an image that was
explained several times only the row of the highest generation counts, of equal ones the last in this order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fastxai.store.dataset import TEXT, DataSet
from fastxai.store.guard import ShardFile, attribute, inside, read_slice
from fastxai.store.handles import Handles
from fastxai.store.names import ENTRY

_ID = DataSet("image/id", TEXT)


@dataclass
class Table:
    """The rows of a run: shard int32 [N] (which of the listed shards), row int32 [N] (in that shard).

    generation: the highest of any shard, 0 without shards. index: an open index.h5 that fits the shards, from which the
    small columns are then read.
    """

    shard: NDArray[np.int32]
    row: NDArray[np.int32]
    generation: int
    index: h5py.File | None = None
    _columns: dict[str, h5py.Dataset] = field(default_factory=dict)  # of the index, as far as they have been checked

    def __len__(self) -> int:
        return len(self.row)

    def close(self) -> None:
        """Close the index, where one is in use."""
        if self.index is not None:
            self.index.close()

    def column(self, spec: DataSet, handles: Handles, positions: slice | NDArray[np.int64]) -> NDArray[Any]:
        """A small column at these positions; text as UTF-8 bytes."""
        if self.index is not None:
            if spec.path not in self._columns:
                self._columns[spec.path] = inside(self.index, f"{ENTRY}/{spec.path}")
            dataset = self._columns[spec.path]
            if isinstance(positions, slice):
                return read_slice(dataset, positions.start, positions.stop)
            if len(positions) == 1:
                return read_slice(dataset, int(positions[0]), int(positions[0]) + 1)
            return read_slice(dataset, 0, len(self))[positions]
        found = handles.gather(spec, self.shard[positions], self.row[positions])
        if found is None:
            raise KeyError(spec.path)
        return found


def scan(shards: Sequence[ShardFile], handles: Handles) -> Table:
    """Read ids and generations of all shards and settle which rows count."""
    owner: dict[bytes, tuple[int, int, int]] = {}
    highest = 0
    for number in range(len(shards)):
        entry = inside(handles.file(number), ENTRY)
        generation = int(attribute(entry, "generation"))
        highest = max(highest, generation)
        dataset = handles.dataset(number, _ID)
        ids = [] if dataset is None else read_slice(dataset, 0, len(dataset)).tolist()
        for row, image in enumerate(ids):
            claim = (generation, number, row)
            if owner.get(image, claim) <= claim:
                owner[image] = claim
    order = sorted((number, row) for _, number, row in owner.values())
    places = np.array(order, dtype=np.int32).reshape(-1, 2)
    return Table(places[:, 0].copy(), places[:, 1].copy(), highest)
