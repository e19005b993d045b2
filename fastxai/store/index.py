"""index.h5: the small columns of all shards in run order, so that a large run opens at once.

It holds nothing that the shards do not say, and is used only while it names exactly the shards that are there, by
name and size. Beside the columns lie virtual data sets that show a viewer the whole run; nothing here reads those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import filelock
import h5py
import numpy as np
from numpy.typing import NDArray

from fastxai.errors import CannotRun
from fastxai.explainers import Explainer
from fastxai.store import files
from fastxai.store.dataset import DataSet, padding
from fastxai.store.files import commit_file, reason, seal
from fastxai.store.guard import (
    ShardFile,
    attribute,
    check_inside,
    gaps,
    indexed_shards,
    inside,
    list_shards,
    open_file,
    read_all,
)
from fastxai.store.handles import Handles, consecutive
from fastxai.store.layout import COLUMNS, Layout
from fastxai.store.manifest import read_manifest
from fastxai.store.names import ENTRY, INDEX, SCHEMA, SHARDS, check_schema
from fastxai.store.scales import OWN, name_dimensions, name_plain
from fastxai.store.table import Table, scan
from fastxai.store.tree import LIBVER, put, set_attributes

_LOCK = "index.lock"
_CHUNK = 1024  # rows a chunk: one image is read with little around it


def build_index(run: str | Path, *, explainers: Sequence[Explainer] | None = None) -> Path:
    """Write index.h5 of the run in folder `run`, atomically, from its shards alone; returns its path."""
    folder = Path(run)
    config = read_manifest(folder).config
    layout = Layout(config, config.build_explainers() if explainers is None else explainers)
    try:
        # Two of them at the same time would write one file; the second one sees at least what the first one saw.
        lock = files.disk.lock(folder / _LOCK, seconds=600)
    except filelock.Timeout as error:
        raise CannotRun(f"{folder} is being indexed by another program: it holds {_LOCK}") from error
    except OSError as error:
        raise CannotRun(f"{folder} cannot be written: {reason(error)}") from error
    try:
        return _build(folder, layout)
    finally:
        lock.release()


def _build(folder: Path, layout: Layout) -> Path:
    shards = list_shards(folder)
    handles = Handles(shards, layout, layout.config.digest)
    try:
        table = scan(shards, handles)
        with h5py.File("index", "w", driver="core", backing_store=False, block_size=1 << 24, libver=LIBVER) as file:
            _write(file, layout, shards, handles, table)
            file.flush()
            image = file.id.get_file_image()
    finally:
        handles.close()
    path = folder / INDEX
    commit_file(path, image, seal(image))
    return path


def load_index(folder: Path, shards: Sequence[ShardFile], config_digest: str) -> Table | None:
    """The table by index.h5; None where there is none, or where it does not fit the shards that are there.

    Raises `SchemaError` for an index of a newer schema and `CannotRun` for a damaged one.
    """
    path = folder / INDEX
    if not path.is_file():
        return None
    check_inside(path, folder)
    file = open_file(path)
    try:
        entry = inside(file, ENTRY)
        check_schema(attribute(entry, "schema"), path)
        fits = attribute(entry, "configuration_digest") == config_digest and indexed_shards(file) == {
            shard.path.name: shard.size for shard in shards
        }
        if not fits:
            file.close()
            return None
        if attribute(entry, "images") == 0:
            file.close()
            return Table(np.zeros(0, np.int32), np.zeros(0, np.int32), 0)
        table = Table(read_all(file, "shard"), read_all(file, "row"), int(attribute(entry, "generation")), file)
    except BaseException:
        file.close()
        raise
    if table.shard.min() < 0 or table.shard.max() >= len(shards) or len(table.shard) != len(table.row):
        file.close()
        raise CannotRun(f"{path} is damaged: remove it, or build it again with `fastxai index`")
    return table


def missing_shards(run: str | Path) -> list[str]:
    """What is wrong with the shards that are there, a line each: gaps in their numbers, names only the index has.

    Raises `ArgumentError` for a folder that is not a run.
    """
    folder = Path(run)
    read_manifest(folder)
    shards = list_shards(folder)
    lines = [f"{SHARDS}/{name} is missing: there are later ones of its worker" for name in gaps(shards)]
    path = folder / INDEX
    if not path.is_file():
        return lines
    try:
        check_inside(path, folder)
        with open_file(path) as file:
            check_schema(attribute(inside(file, ENTRY), "schema"), path)
            known = indexed_shards(file)
    except CannotRun as error:
        return [*lines, f"what the index before knew is lost: {error}"]
    there = {shard.path.name for shard in shards} | {line.split()[0].removeprefix(f"{SHARDS}/") for line in lines}
    return [*lines, *(f"{SHARDS}/{name} is missing: the index before names it" for name in known if name not in there)]


def _write(file: h5py.File, layout: Layout, shards: Sequence[ShardFile], handles: Handles, table: Table) -> None:
    entry = file.create_group(ENTRY)
    first = layout.config.methods[0] if layout.config.methods else "image"
    set_attributes(file, NX_class="NXroot", default=ENTRY)
    set_attributes(
        entry,
        NX_class="NXentry",
        default=first,
        schema=SCHEMA,
        configuration_digest=layout.config.digest,
        generation=table.generation,
        images=len(table),
        shards=len(shards),
    )
    if not shards:
        return
    listed = entry.create_group("shards")
    set_attributes(listed, NX_class="NXcollection")
    put(listed, "name", np.array([shard.path.name.encode() for shard in shards]))
    put(listed, "size", np.array([shard.size for shard in shards], dtype=np.int64))
    put(entry, "shard", table.shard, _CHUNK)
    put(entry, "row", table.row, _CHUNK)
    columns, shapes = _collect(layout, handles, table)
    for path, parts in columns.items():
        put(entry, path, np.concatenate(parts), _CHUNK)
    for path, found in shapes.items():
        if all(shape is not None for shape in found.values()):
            _write_virtual(entry, layout.data_sets[path], shards, found, table)
    pattern = handles.file(int(table.shard[0]))[ENTRY]
    for group in layout.dims:
        if group in entry:
            there = {name: dims for name, dims in layout.dims[group].items() if name in entry[group]}
            name_dimensions(entry[group], there, put)
            _annotate(entry[group], pattern[group], there)
    name_plain(file, "position", [entry["shard"], entry["row"]], put)
    name_plain(file, "listed", [listed["name"], listed["size"]], put)


def _collect(
    layout: Layout, handles: Handles, table: Table
) -> tuple[dict[str, list[NDArray[Any]]], dict[str, dict[int, Any]]]:
    """In one pass over the shards: the small columns in run order, and the shapes of everything else by shard."""
    columns: dict[str, list[NDArray[Any]]] = {path: [] for path in COLUMNS}
    shapes: dict[str, dict[int, Any]] = {path: {} for path in layout.data_sets if path not in COLUMNS}
    numbers, starts = np.unique(table.shard, return_index=True)
    for number, rows in zip(numbers.tolist(), np.split(table.row, starts[1:]), strict=True):
        for path, parts in columns.items():
            found = handles.gather(layout.data_sets[path], np.full(len(rows), number, np.int32), rows)
            if found is None:
                raise CannotRun(f"{handles.shards[number].path} is damaged: it has no {ENTRY}/{path}")
            parts.append(found)
        for path, sizes in shapes.items():
            dataset = handles.dataset(number, layout.data_sets[path])
            sizes[number] = None if dataset is None else dataset.shape
    return columns, shapes


def _write_virtual(
    entry: h5py.Group, spec: DataSet, shards: Sequence[ShardFile], shapes: dict[int, Any], table: Table
) -> None:
    """The data set of the whole run, in run order, mapped onto the shards by names relative to the run."""
    rows = tuple(max(shape[1 + axis] for shape in shapes.values()) for axis in range(len(spec.dims)))
    dtype = np.dtype(spec.dtype).newbyteorder("<")
    virtual = h5py.VirtualLayout((len(table), *rows), dtype)
    for start, stop in consecutive(table.shard, table.row):
        number, row = int(table.shard[start]), int(table.row[start])
        inner = tuple(slice(0, length) for length in shapes[number][1:])
        name = f"{SHARDS}/{shards[number].path.name}"
        source = h5py.VirtualSource(name, f"/{ENTRY}/{spec.path}", shapes[number], dtype)
        virtual[(slice(start, stop), *inner)] = source[(slice(row, row + stop - start), *inner)]
    entry.create_virtual_dataset(spec.path, virtual, fillvalue=0 if dtype.kind == "u" else padding(dtype))


def _annotate(group: h5py.Group, pattern: h5py.Group, names: Iterable[str]) -> None:
    """The attributes of a shard's group and of the data sets `names` in it."""
    for name, value in pattern.attrs.items():
        group.attrs[name] = value
    for name in names:
        for key, value in pattern[name].attrs.items():
            if key not in OWN:
                group[name].attrs[key] = value
