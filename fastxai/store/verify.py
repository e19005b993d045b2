"""Looking at every byte of a run: what is damaged, missing or leads elsewhere. Repairs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import h5py

from fastxai.errors import ArgumentError, CannotRun
from fastxai.explainers import Explainer
from fastxai.store.files import broken_seal
from fastxai.store.guard import (
    ShardFile,
    attribute,
    check_link,
    check_storage,
    inside,
    list_shards,
    open_file,
    open_shard,
    parse_shard_name,
    read_slice,
    walk,
)
from fastxai.store.index import INDEX, indexed_shards
from fastxai.store.layout import Layout
from fastxai.store.manifest import SHARDS, read_manifest
from fastxai.store.schema import ENTRY
from fastxai.types import Status

_READ_BYTES = 64 << 20  # bytes read at a time


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the file, relative to the run, and what is wrong with it."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


def verify(run: str | Path, *, explainers: Sequence[Explainer] | None = None) -> list[Problem]:
    """Check every shard (seal, structure, links, counts, all data) and the index of a run; what is wrong, in run order.

    Raises `ArgumentError` for a folder that is not a run and `SchemaError` where run.json cannot be read.
    """
    folder = Path(run)
    config = read_manifest(folder).config
    layout = Layout(config, config.build_explainers() if explainers is None else explainers)
    try:
        shards = list_shards(folder)
    except CannotRun as error:
        return [Problem(SHARDS, str(error))]
    problems = [Problem(f"{SHARDS}/{name}", "is missing: there are later ones of its worker") for name in _gaps(shards)]
    for shard in shards:
        name = f"{SHARDS}/{shard.path.name}"
        problems += [Problem(name, what) for what in _verify_shard(shard, layout)]
    if (folder / INDEX).exists():
        problems += [Problem(INDEX, what) for what in _verify_index(folder, shards)]
    return problems


def _gaps(shards: Sequence[ShardFile]) -> Iterator[str]:
    """Names of shards that must have been there: a worker numbers its shards 0, 1, ... without a gap."""
    for worker in dict.fromkeys(shard.worker for shard in shards):
        numbers = {shard.number for shard in shards if shard.worker == worker}
        for number in range(max(numbers)):
            if number not in numbers:
                yield f"part-{worker}-{number:05d}.h5"


def _verify_shard(shard: ShardFile, layout: Layout) -> Iterator[str]:
    try:
        seal = broken_seal(shard.path)
        if seal is not None:
            yield f"is damaged: {seal}"
        with open_shard(shard.path, layout.config.digest) as file:
            yield from _verify_tree(file)
            yield from _verify_rows(file, shard, layout)
    except (CannotRun, OSError) as error:
        yield str(error)
    except Exception as error:  # a damaged file makes HDF5 and h5py raise anything
        yield f"is damaged: {type(error).__name__} {error}"


def _verify_tree(file: h5py.File) -> Iterator[str]:
    """Every object lies in the file, and every value of it can be read."""
    for name, link, item in walk(file):
        try:
            check_link(link, "the shard", name)
            if isinstance(item, h5py.Dataset):
                check_storage(item, "the shard", name)
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


def _verify_rows(file: h5py.File, shard: ShardFile, layout: Layout) -> Iterator[str]:
    entry = inside(file, ENTRY)
    if (attribute(entry, "worker"), attribute(entry, "number")) != (shard.worker, shard.number):
        yield f"was written as part-{attribute(entry, 'worker')}-{attribute(entry, 'number')}"
    rows = attribute(entry, "images")
    for spec in layout.data_sets.values():
        try:
            layout.check(inside(file, f"{ENTRY}/{spec.path}"), spec, rows)
        except CannotRun as error:
            yield str(error)
    status = read_slice(inside(file, f"{ENTRY}/image/status"), 0, rows)
    if not set(status.tolist()) <= {int(known) for known in Status}:
        yield "has images with an unknown status"
    ids = read_slice(inside(file, f"{ENTRY}/image/id"), 0, rows).tolist()
    if b"" in ids:
        yield "has images without an id"


def _verify_index(folder: Path, shards: Sequence[ShardFile]) -> Iterator[str]:
    path = folder / INDEX
    try:
        with open_file(path) as file:
            for name, link, item in walk(file):
                check_link(link, "the index", name)
                if isinstance(item, h5py.Dataset):
                    yield from _verify_indexed(name, item)
            there = {shard.path.name: shard.size for shard in shards}
            for name, size in indexed_shards(file).items():
                if name not in there:
                    yield f"names {SHARDS}/{name}, which is missing"
                elif there[name] != size:
                    yield f"names {SHARDS}/{name} with {size} bytes, it has {there[name]}"
    except (CannotRun, ArgumentError, OSError) as error:
        yield str(error)
    except Exception as error:  # as above
        yield f"is damaged: {type(error).__name__} {error}"


def _verify_indexed(name: str, dataset: h5py.Dataset) -> Iterator[str]:
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
