"""index.h5: the small columns of all shards in run order, so that a large run opens at once.

It holds nothing that the shards do not say, and is used only while it names exactly the shards that are there, by
name and size. Beside the columns lie virtual data sets that show a viewer the whole run; nothing here reads those.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fastxai.errors import CannotRun
from fastxai.explainers import Explainer
from fastxai.store.files import commit_file
from fastxai.store.guard import (
    ShardFile,
    attribute,
    check_inside,
    check_schema,
    inside,
    list_shards,
    open_file,
    read_slice,
)
from fastxai.store.handles import Handles, consecutive
from fastxai.store.layout import COLUMNS, DataSet, Layout, padding
from fastxai.store.manifest import SHARDS, read_manifest
from fastxai.store.schema import ENTRY, SCHEMA
from fastxai.store.table import Table, scan
from fastxai.store.tree import LIBVER, put, set_attributes

INDEX = "index.h5"
_CHUNK = 1024  # rows a chunk: one image is read with little around it


def build_index(run: str | Path, *, explainers: Sequence[Explainer] | None = None) -> Path:
    """Write index.h5 of the run in folder `run`, atomically, from its shards alone; returns its path."""
    folder = Path(run)
    config = read_manifest(folder).config
    layout = Layout(config, config.build_explainers() if explainers is None else explainers)
    shards = list_shards(folder)
    handles = Handles(shards, layout, config.digest)
    try:
        table = scan(shards, handles)
        with h5py.File("index", "w", driver="core", backing_store=False, block_size=1 << 24, libver=LIBVER) as file:
            _write(file, layout, shards, handles, table)
            file.flush()
            image = file.id.get_file_image()
    finally:
        handles.close()
    path = folder / INDEX
    # Its own name for each process: two of them may index at the same time.
    commit_file(path, image, part=folder / f"{INDEX}.{os.getpid()}.part")
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
        table = Table(_all(file, "shard"), _all(file, "row"), int(attribute(entry, "generation")), file)
    except BaseException:
        file.close()
        raise
    if table.shard.min() < 0 or table.shard.max() >= len(shards) or len(table.shard) != len(table.row):
        file.close()
        raise CannotRun(f"{path} is damaged: remove it, or build it again with `fastxai index`")
    return table


def indexed_shards(file: h5py.File) -> dict[str, int]:
    """Names and sizes in bytes of the shards that an index was made from."""
    if attribute(inside(file, ENTRY), "shards") == 0:
        return {}
    names, sizes = _all(file, "shards/name"), _all(file, "shards/size")
    return {name.decode("utf-8", "replace"): size for name, size in zip(names.tolist(), sizes.tolist(), strict=True)}


def _all(file: h5py.File, name: str) -> NDArray[Any]:
    dataset = inside(file, f"{ENTRY}/{name}")
    return read_slice(dataset, 0, len(dataset))


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
    for group in {path.split("/")[0] for path in layout.data_sets}:
        if group in entry:
            _annotate(entry[group], pattern[group], len(table))


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


def _annotate(group: h5py.Group, pattern: h5py.Group, images: int) -> None:
    """The attributes of a shard's group and data sets, and its axes for the length of the run."""
    for name, value in pattern.attrs.items():
        group.attrs[name] = value
    for name in pattern:
        if name in group:
            for key, value in pattern[name].attrs.items():
                group[name].attrs[key] = value
    axes = [axis.decode() for axis in pattern.attrs.get("axes", ())]
    signal = pattern.attrs.get("signal", b"").decode()
    for axis, length in zip(axes, group[signal].shape if signal in group else (), strict=False):
        if axis not in group:
            put(group, axis, np.arange(images if axis == "image" else length, dtype=np.int32))
