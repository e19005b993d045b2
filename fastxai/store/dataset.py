"""One data set of a shard: its type and its dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from fastxai.errors import SchemaError
from fastxai.store.names import ENTRY

TEXT = "text"  # fixed-length UTF-8, as long as the longest in the shard

# Dimensions whose length a run does not fix, and the most that is believed.
_FREE = {"segment": 1 << 16, "cam_y": 1 << 14, "cam_x": 1 << 14}


@dataclass(frozen=True)
class DataSet:
    """A data set under `entry/`: its type and its dimensions after the image."""

    path: str
    dtype: str
    dims: tuple[str, ...] = ()
    long_name: str = ""

    @property
    def ragged(self) -> bool:
        """Whether rows differ in length (segments) and are padded in a shard."""
        return "segment" in self.dims

    @property
    def chunked_by_image(self) -> bool:
        """One image a chunk: everything with more than one dimension of its own. Columns are one chunk a shard."""
        return len(self.dims) > 1

    @property
    def picture(self) -> bool:
        return self.dims[-2:] in (("y", "x"), ("cam_y", "cam_x"))


def check_data_set(
    dataset: h5py.Dataset, expected: DataSet, lengths: Mapping[str, int], rows: int | None = None
) -> None:
    """`Layout.check` with the lengths of dimensions that a run fixes."""
    where = f"{dataset.file.filename} is not of this run: {ENTRY}/{expected.path}"
    found = TEXT if dataset.dtype.kind == "S" else dataset.dtype.name
    if found != expected.dtype:
        raise SchemaError(f"{where} is {found}, not {expected.dtype}")
    shape = dataset.shape
    known = tuple(lengths.get(dim) for dim in expected.dims)
    good = len(shape) == 1 + len(known) and (rows is None or shape[0] == rows)
    if not good or any(
        length > _FREE.get(dim, 0) if want is None else length != want
        for dim, want, length in zip(expected.dims, known, shape[1:], strict=True)
    ):
        wanted = ", ".join(["images" if rows is None else str(rows), *expected.dims])
        raise SchemaError(f"{where} has the shape {shape}, not ({wanted})")


def padding(dtype: Any) -> float:
    """What stands where a ragged row has ended: NaN, -1 for integers."""
    return float("nan") if np.dtype(dtype).kind == "f" else -1
