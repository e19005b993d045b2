"""Opening HDF5 files that may come from anywhere: nothing outside of the file itself is ever followed.

A file can name other files in external links, external storage and virtual data sets, and HDF5 reads them without
a word. Everything read here is first checked to lie in the file: reached by hard links only, stored in chunks, with
filters that HDF5 brings itself.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fastxai.errors import CannotRun, SchemaError
from fastxai.store.files import reason
from fastxai.store.names import ENTRY, SHARDS, check_schema

_NAME = re.compile(r"part-(?P<worker>[A-Za-z0-9_.-]+)-(?P<number>\d+)\.h5")
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}


@dataclass(frozen=True)
class ShardFile:
    """A committed shard by its name: part-<worker>-<number>.h5."""

    path: Path
    worker: str
    number: int
    size: int  # bytes

    @property
    def order(self) -> tuple[bool, int, str, int]:
        """Run order: by worker (numbers as numbers, then words), then by number."""
        digits = self.worker.isdecimal()
        return (not digits, int(self.worker) if digits else 0, self.worker, self.number)


def parse_shard_name(name: str) -> tuple[str, int] | None:
    """(worker, number) of the name of a committed shard, None for any other name."""
    match = _NAME.fullmatch(name)
    return None if match is None else (match["worker"], int(match["number"]))


def list_shards(run: Path) -> list[ShardFile]:
    """The committed shards of a run, in run order. A shard that lies elsewhere (a link) is refused."""
    folder = run / SHARDS
    found = []
    try:
        if not folder.is_dir():
            return []
        check_inside(folder, run)
        with os.scandir(folder) as entries:
            for entry in entries:
                parsed = parse_shard_name(entry.name)
                if parsed is not None:
                    found.append(ShardFile(folder / entry.name, *parsed, size=_size(entry, run)))
    except OSError as error:
        raise CannotRun(f"{folder} cannot be read: {reason(error)}") from error
    return sorted(found, key=lambda shard: shard.order)


def _size(entry: os.DirEntry[str], run: Path) -> int:
    """Bytes of a shard, after a look at where it lies and what it is (opening a pipe would wait for ever)."""
    if entry.is_symlink():
        check_inside(Path(entry.path), run)
    if not entry.is_file():
        raise SchemaError(f"{entry.path} must be a file")
    return entry.stat().st_size


def gaps(shards: Sequence[ShardFile]) -> Iterator[str]:
    """Names of shards that must have been there: a worker numbers its shards 0, 1, ... without a gap."""
    numbers: dict[str, set[int]] = {}
    for shard in shards:
        numbers.setdefault(shard.worker, set()).add(shard.number)
    for worker, known in numbers.items():
        for number in range(max(known)):
            if number not in known:
                yield f"part-{worker}-{number:05d}.h5"


def check_inside(path: Path, run: Path) -> None:
    """Refuse a name that leads out of the run."""
    if not path.resolve().is_relative_to(run.resolve()):
        raise SchemaError(f"{path} must lie in the run, it leads to {path.resolve()}")


def open_file(path: Path) -> h5py.File:
    """Open for reading; `CannotRun` in one line where it is no HDF5 file."""
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise CannotRun(f"{path} cannot be opened: {reason(error)}; see `fastxai verify`") from error


def open_shard(path: Path, config_digest: str) -> h5py.File:
    """Open a shard of the run whose configuration has `config_digest`; another run's shard is refused."""
    file = open_file(path)
    try:
        entry = inside(file, ENTRY)
        check_schema(attribute(entry, "schema"), path)
        found = attribute(entry, "configuration_digest")
        if found != config_digest:
            raise SchemaError(f"{path} belongs to a run with another configuration")
    except BaseException:
        file.close()
        raise
    return file


def inside(file: h5py.File, name: str) -> Any:
    """The group or data set `name`, every step to which is a hard link, and which keeps its numbers in the file."""
    found: Any = file
    where = file.filename
    try:
        for step in name.split("/"):
            link = found.get(step, getlink=True) if isinstance(found, h5py.Group) else None
            if link is None:
                raise SchemaError(f"{where} is damaged: it has no {name!r}")
            check_link(link, where, name)
            found = found[step]
    except (OSError, RuntimeError, KeyError) as error:
        if isinstance(error, SchemaError):
            raise
        raise CannotRun(f"{where} is damaged: {name!r} cannot be opened; see `fastxai verify`") from error
    if isinstance(found, h5py.Dataset):
        check_storage(found, where, name)
    return found


def has(file: h5py.File, name: str) -> bool:
    """Whether there is something called `name`, itself unchecked."""
    try:
        return file.get(name, getlink=True) is not None
    except KeyError:
        return False


def check_link(link: Any, where: str, name: str) -> None:
    """Only hard links stay in the file for certain: a soft link may pass through an external one."""
    if not isinstance(link, h5py.HardLink):
        kind = "an external link" if isinstance(link, h5py.ExternalLink) else "a soft link"
        raise SchemaError(f"{where} must hold everything itself, but {name!r} is {kind}")


def check_storage(dataset: h5py.Dataset, where: str, name: str) -> None:
    """Refuse external storage, virtual data sets, filters that HDF5 would load from elsewhere, and pointers."""
    if dataset.is_virtual:
        raise SchemaError(f"{where} must hold everything itself, but {name!r} is a virtual data set")
    plist = dataset.id.get_create_plist()
    if plist.get_external_count():
        raise SchemaError(f"{where} must hold everything itself, but {name!r} is in external storage")
    if dataset.chunks is None or dataset.dtype.kind not in "uifS":
        raise SchemaError(f"{where} is not of this schema: {name!r} is not chunks of numbers or fixed-length text")
    used = [plist.get_filter(position)[0] for position in range(plist.get_nfilters())]
    if not set(used) <= _FILTERS or h5py.h5z.FILTER_FLETCHER32 not in used:
        raise SchemaError(f"{where} is not of this schema: {name!r} has the filters {used}")
    # HDF5 reads a chunk that is not there as zeros, without a word.
    want = math.prod(-(-length // chunk) for length, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    if dataset.id.get_num_chunks() != want:
        raise SchemaError(f"{where} is damaged: {name!r} has {dataset.id.get_num_chunks()} of {want} chunks")


def attribute(item: Any, name: str) -> Any:
    """An attribute as str or int; `SchemaError` where it is missing or something else."""
    where = item.file.filename
    try:
        value = item.attrs[name]
    except (OSError, RuntimeError, KeyError) as error:
        raise SchemaError(f"{where} is not a shard of a run: {item.name} has no attribute {name!r}") from error
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, str):
        return value
    raise SchemaError(f"{where} is damaged: attribute {name!r} of {item.name} is {type(value).__name__}")


def recorded_rows(path: Path, config_digest: str) -> dict[str, int]:
    """Rows a chunk by probe kind with which a shard was made; empty where it does not say."""
    name = f"{ENTRY}/process/rows"
    with open_shard(path, config_digest) as file:
        if not has(file, name):
            return {}
        text = read_slice(inside(file, name), 0, 1)
    try:
        return {str(kind): int(rows) for kind, rows in json.loads(text[0]).items()}
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise SchemaError(f"{path} is damaged: {name!r} does not say rows a chunk") from error


def read_slice(dataset: h5py.Dataset, start: int, stop: int) -> NDArray[Any]:
    """Rows of a data set; a checksum that does not fit is a `CannotRun` that names file and data set."""
    try:
        values: NDArray[Any] = dataset[start:stop]
    except (OSError, RuntimeError) as error:
        where = f"{dataset.name} rows {start} to {stop - 1}"
        raise CannotRun(f"{dataset.file.filename} is damaged: {where} cannot be read; see `fastxai verify`") from error
    return values


def indexed_shards(file: h5py.File) -> dict[str, int]:
    """Names and sizes in bytes of the shards that an index was made from."""
    if attribute(inside(file, ENTRY), "shards") == 0:
        return {}
    names, sizes = read_all(file, "shards/name"), read_all(file, "shards/size")
    return {name.decode("utf-8", "replace"): size for name, size in zip(names.tolist(), sizes.tolist(), strict=True)}


def read_all(file: h5py.File, name: str) -> NDArray[Any]:
    """A whole data set under `entry/`."""
    dataset = inside(file, f"{ENTRY}/{name}")
    return read_slice(dataset, 0, len(dataset))


def walk(file: h5py.File) -> Iterator[tuple[str, Any, Any]]:
    """Every (name, link, object) of a file, links that are not hard with None for their object; each object once."""
    seen = {_address(file)}
    waiting: list[tuple[str, h5py.Group]] = [("", file)]
    while waiting:
        prefix, group = waiting.pop()
        for name in group:
            path = f"{prefix}/{name}" if prefix else name
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                yield path, link, None
                continue
            item = group[name]
            address = _address(item)
            if address in seen:
                continue
            seen.add(address)
            yield path, link, item
            if isinstance(item, h5py.Group):
                waiting.append((path, item))


def _address(item: Any) -> int:
    return int(h5py.h5o.get_info(item.id).addr)
