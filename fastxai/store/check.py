"""Looking at every byte of one file of a run: what is damaged, missing or leads elsewhere.

A file may have been made so that HDF5 crashes or never comes back: `fastxai.store.children` does this in a process
of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import h5py

from fastxai.errors import ArgumentError, CannotRun
from fastxai.store.dataset import DataSet, check_data_set
from fastxai.store.files import broken_seal
from fastxai.store.guard import (
    attribute,
    check_link,
    check_storage,
    indexed_shards,
    inside,
    open_file,
    open_shard,
    parse_shard_name,
    read_slice,
    walk,
)
from fastxai.store.names import ENTRY, SHARDS

_READ_BYTES = 64 << 20  # bytes read at a time


@dataclass(frozen=True)
class Expected:
    """What the shards of a run must hold: plain data, for a process that knows nothing of the run.

    digest: of the configuration; data_sets: under `entry/`; lengths: of the dimensions that the run fixes; statuses:
    of images, as numbers.
    """

    digest: str
    data_sets: tuple[DataSet, ...]
    lengths: dict[str, int]
    statuses: tuple[int, ...]


@dataclass(frozen=True)
class Checked:
    """What one file turned out to be: problems in words; the generation and the ids of a shard that could be read."""

    problems: list[str]
    generation: int = 0
    ids: list[str] | None = None


def check_shard(path: Path, name: str | None, expected: Expected) -> Checked:
    """Check a shard: seal, structure, links, counts, all data. `name` is what it was written as, None for any."""
    problems: list[str] = []
    generation, ids = 0, None
    try:
        seal = broken_seal(path)
        if seal is not None:
            problems.append(f"is damaged: {seal}")
        with open_shard(path, expected.digest) as file:
            problems += _check_tree(file, "the shard")
            entry = inside(file, ENTRY)
            problems += _check_rows(file, expected)
            written = f"part-{attribute(entry, 'worker')}-{attribute(entry, 'number'):05d}.h5"
            if name is not None and name != written:
                problems.append(f"was written as {written}")
            generation, ids = int(attribute(entry, "generation")), _ids(file)
        problems += [f"has {count} rows of the image {image!r}" for image, count in Counter(ids).items() if count > 1]
    except (CannotRun, OSError) as error:
        problems.append(str(error))
    except Exception as error:  # a damaged file makes HDF5 and h5py raise anything
        problems.append(f"is damaged: {type(error).__name__} {error}")
    return Checked(problems, generation, ids)


def check_index(path: Path, shards: dict[str, int]) -> Checked:
    """Check an index against the shards that are there (name -> bytes): seal, links, columns, what it names."""
    problems: list[str] = []
    try:
        seal = broken_seal(path)
        if seal is not None:
            problems.append(f"is damaged: {seal}; build it again with `fastxai index`")
        with open_file(path) as file:
            for name, link, item in walk(file):
                check_link(link, "the index", name)
                if isinstance(item, h5py.Dataset):
                    problems += _check_indexed(name, item)
            for name, size in indexed_shards(file).items():
                if name not in shards:
                    problems.append(f"names {SHARDS}/{name}, which is missing")
                elif shards[name] != size:
                    problems.append(f"names {SHARDS}/{name} with {size} bytes, it has {shards[name]}")
    except (CannotRun, ArgumentError, OSError) as error:
        problems.append(str(error))
    except Exception as error:  # as above
        problems.append(f"is damaged: {type(error).__name__} {error}")
    return Checked(problems)


def _check_tree(file: h5py.File, where: str) -> Iterator[str]:
    """Every object lies in the file, and every value of it can be read."""
    for name, link, item in walk(file):
        try:
            check_link(link, where, name)
            if isinstance(item, h5py.Dataset):
                check_storage(item, where, name)
                _read_all(item)
            elif not isinstance(item, h5py.Group):
                yield f"holds {name!r}, which is neither group nor data set"
        except CannotRun as error:
            yield str(error)


def _read_all(dataset: h5py.Dataset) -> None:
    row = max(1, dataset.dtype.itemsize * int(dataset.size) // max(1, len(dataset)))
    step = max(1, _READ_BYTES // row)
    for start in range(0, len(dataset), step):
        read_slice(dataset, start, min(start + step, len(dataset)))


def _check_rows(file: h5py.File, expected: Expected) -> Iterator[str]:
    rows = attribute(inside(file, ENTRY), "images")
    for spec in expected.data_sets:
        try:
            check_data_set(inside(file, f"{ENTRY}/{spec.path}"), spec, expected.lengths, rows)
        except CannotRun as error:
            yield str(error)
    status = inside(file, f"{ENTRY}/image/status")
    unknown = set(read_slice(status, 0, len(status)).tolist()) - set(expected.statuses)
    if unknown:
        yield f"has images with an unknown status: {', '.join(map(str, sorted(unknown)))}"
    if "" in _ids(file):
        yield "has images without an id"


def _ids(file: h5py.File) -> list[str]:
    dataset = inside(file, f"{ENTRY}/image/id")
    return [image.decode("utf-8", "replace") for image in read_slice(dataset, 0, len(dataset)).tolist()]


def _check_indexed(name: str, dataset: h5py.Dataset) -> Iterator[str]:
    """Columns are read; virtual data sets are not followed, their sources must be shards of this run."""
    if not dataset.is_virtual:
        check_storage(dataset, "the index", name)
        _read_all(dataset)
        return
    for source in dataset.virtual_sources():
        if not _is_shard(source):
            yield f"{name!r} leads to {source.file_name!r}, which is no shard of this run"
            return


def _is_shard(source: Any) -> bool:
    path = PurePosixPath(source.file_name)
    return path.parent == PurePosixPath(SHARDS) and parse_shard_name(path.name) is not None
