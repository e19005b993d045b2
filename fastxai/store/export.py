"""A run, or a part of it, as one file for sharing: a shard of all its images that also holds what run.json says.

Packed chunks travel as they are, so that a run is copied about as fast as its files are read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fastxai.errors import ArgumentError, CannotRun, SchemaError
from fastxai.explainers import Explainer
from fastxai.store import files
from fastxai.store.chunks import fletcher32, pack
from fastxai.store.dataset import TEXT, DataSet, padding
from fastxai.store.exported import RUN
from fastxai.store.files import PART, finish_file, in_one_line, remove_if_there
from fastxai.store.handles import Handles, consecutive
from fastxai.store.layout import Layout
from fastxai.store.reader import Run, open_run
from fastxai.store.sink import Sink
from fastxai.store.table import Table
from fastxai.store.tree import LIBVER, ShardName, Tree, put_text

_ROWS = 1024  # rows a chunk of the small columns
_BLOCK = 16 * _ROWS  # rows of these in memory
_HASHED = 1 << 20  # bytes hashed at a time


def export_run(
    run: str | Path,
    out: str | Path,
    *,
    ids: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    pixels: bool = True,
    explainers: Sequence[Explainer] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the run `run` as the one file `out`, which `open_run` reads like a run; returns its path.

    ids, methods: only these, in run order. pixels: False leaves the pictures out. explainers: as for `open_run`.
    progress: called with images done and images in all. The file is there whole or not at all, and holds everything
    itself.

    Raises `ArgumentError` for ids and methods that are not in the run and for an `out` that is there already,
    `CannotRun` for a damaged run and a disk that is full.
    """
    out = Path(out)
    with open_run(run, explainers=explainers) as opened:
        _check_out(out, opened.path)
        positions = _positions(opened, ids)
        kept = _kept(opened, methods)
        config = dataclasses.replace(
            opened.config,
            explainers=tuple(opened.config.explainers[place] for place in kept),
            pixels=opened.config.pixels and pixels,
        )
        layout = Layout(config, [opened.explainers[place] for place in kept])
        text = dataclasses.replace(opened.manifest, config=config).to_json()
        handles = Handles(opened.shards, opened.layout, opened.config.digest)
        places = Table(opened.table.shard[positions], opened.table.row[positions], opened.generation)
        copy = _Copy(layout, opened.layout, handles, places)
        part = out.with_name(f"{out.name}.{os.getpid()}{PART}")
        with in_one_line(out):
            try:
                _write(part, copy, text, opened.chunk_rows(), progress)
                finish_file(part, out)
            except BaseException:
                remove_if_there(part)
                raise
            finally:
                handles.close()
    return out


def _check_out(out: Path, run: Path) -> None:
    if out.exists() or out.is_symlink():
        raise ArgumentError(f"out must be a new file, got {str(out)!r}, which is there")
    if not out.parent.is_dir():
        raise ArgumentError(f"out must lie in a folder that is there, got {str(out)!r}")
    if out.resolve().is_relative_to(run.resolve()):
        raise ArgumentError(f"out must lie outside of the run, got {str(out)!r}")


def _positions(run: Run, ids: Sequence[str] | None) -> NDArray[np.int64]:
    found = np.arange(len(run)) if ids is None else np.array(sorted(set(run.positions(ids))), dtype=np.int64)
    if not len(found):
        raise ArgumentError(f"RUN must hold images to export, got none of {len(run)} in {str(run.path)!r}")
    return found


def _kept(run: Run, methods: Sequence[str] | None) -> list[int]:
    for name in methods or ():
        if name not in run.methods:
            raise ArgumentError(f"methods must be among {', '.join(run.methods) or '(none)'}, got {name!r}")
    return [place for place, name in enumerate(run.methods) if methods is None or name in methods]


def _write(
    part: Path, copy: _Copy, run_json: str, chunk_rows: Mapping[str, int], progress: Callable[[int, int], None] | None
) -> None:
    """The file, complete and synced, under its name for the time being."""
    stream = files.disk.open(part)
    try:
        sink = Sink(stream)
        try:
            with h5py.File(sink, "w", libver=LIBVER) as file:
                copy.write(file, run_json, chunk_rows, sink.check, progress)
        finally:
            sink.check()  # what the disk said comes before what HDF5 made of it
        _seal(stream)
        files.disk.fsync(stream)
    finally:
        files.disk.close(stream)


def _seal(stream: Any) -> None:
    size, place = os.fstat(stream.fileno()).st_size, 0
    digest = hashlib.blake2b(digest_size=16)
    while place < size:
        piece = files.disk.read(stream, min(_HASHED, size - place), place)
        digest.update(piece)
        place += len(piece)
    files.disk.write(stream, files.seal_text(digest.hexdigest()), size)


class _Copy:
    """Rows of shards on their way into one file."""

    def __init__(self, layout: Layout, source: Layout, handles: Handles, table: Table) -> None:
        self._layout, self._handles, self._table = layout, handles, table
        # Label maps may be called otherwise there: the names depend on which methods are kept.
        groups = {group: source.segments[key] for key, group in layout.segments.items()}
        self._from: dict[str, DataSet] = {}
        for path in layout.data_sets:
            group, _, name = path.partition("/")
            self._from[path] = source.data_sets[f"{groups.get(group, group)}/{name}"]

    def write(
        self,
        file: h5py.File,
        run_json: str,
        chunk_rows: Mapping[str, int],
        check: Callable[[], None],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """The whole tree. `check` raises what the disk refused, `progress` is called as images are done."""
        rows = len(self._table)
        tree = Tree(self._layout, file, ShardName("export", 0, self._table.generation), rows)
        put_text(tree.entry, RUN, [run_json])
        if chunk_rows:
            put_text(tree.entry, "process/rows", [json.dumps(dict(chunk_rows))])
        targets = self._create(tree)
        check()
        columns = [path for path in targets if not self._from[path].chunked_by_image]
        for start in range(0, rows, _BLOCK):
            self._copy_columns(columns, targets, start, min(start + _BLOCK, rows))
            check()
        for start, stop in consecutive(self._table.shard, self._table.row):
            for path, target in targets.items():
                if self._from[path].chunked_by_image:
                    self._copy_rows(self._from[path], target, start, stop, check)
            if progress is not None:
                progress(stop, rows)
        tree.annotate()

    def _create(self, tree: Tree) -> dict[str, h5py.Dataset]:
        """Empty data sets: rows as long as the longest, text as wide as the widest."""
        shapes: dict[str, list[tuple[int, ...]]] = {path: [] for path in self._from}
        widths = dict.fromkeys(self._from, 1)
        for number in np.unique(self._table.shard).tolist():
            for path, spec in self._from.items():
                dataset = self._source(number, spec)
                shapes[path].append(dataset.shape[1:])
                widths[path] = max(widths[path], dataset.dtype.itemsize)
        created = {}
        for path, found in shapes.items():
            spec = self._layout.data_sets[path]
            shape = tuple(max(lengths) for lengths in zip(*found, strict=True))
            dtype = np.dtype(f"S{widths[path]}") if spec.dtype == TEXT else np.dtype(spec.dtype)
            created[path] = tree.create(spec, shape, dtype, 1 if spec.chunked_by_image else _ROWS)
        return created

    def _source(self, number: int, spec: DataSet) -> h5py.Dataset:
        dataset = self._handles.dataset(number, spec)
        if dataset is None:
            raise CannotRun(f"{self._handles.shards[number].path} is damaged: it has no {spec.path}")
        return dataset

    def _copy_columns(self, columns: list[str], targets: dict[str, h5py.Dataset], start: int, stop: int) -> None:
        """Rows start..stop-1 of all columns: whole chunks, each shard opened once."""
        shard, row = self._table.shard[start:stop], self._table.row[start:stop]
        pieces: dict[str, list[NDArray[Any]]] = {path: [] for path in columns}
        for first, last in consecutive(shard, row):
            for path, parts in pieces.items():
                parts.append(self._gather(self._from[path], shard[first:last], row[first:last]))
        for path, parts in pieces.items():
            target = targets[path]
            shape = target.shape[1:]
            target[start:stop] = np.concatenate([_widen(part, shape) for part in parts]).astype(target.dtype)

    def _copy_rows(self, spec: DataSet, target: h5py.Dataset, start: int, stop: int, check: Callable[[], None]) -> None:
        """Rows that lie one behind the other in one shard, chunk by chunk."""
        source = self._source(int(self._table.shard[start]), spec)
        alike = _alike(source, target)
        rest = (0,) * len(spec.dims)
        for place in range(start, stop):
            row = self._table.row[place : place + 1]
            if not 0 <= row[0] < len(source):
                raise SchemaError(f"{source.file.filename} has {len(source)} rows, row {row[0]} was asked for")
            packed = _packed(source, (int(row[0]), *rest)) if alike else None
            if packed is None:
                values = self._gather(spec, self._table.shard[place : place + 1], row)
                packed = pack(_widen(values, target.shape[1:])[0].astype(target.dtype, copy=False))
            target.id.write_direct_chunk((place, *rest), packed)
            check()

    def _gather(self, spec: DataSet, shard: NDArray[np.int32], row: NDArray[np.int32]) -> NDArray[Any]:
        found = self._handles.gather(spec, shard, row)
        if found is None:
            raise CannotRun(f"{self._handles.shards[int(shard[0])].path} is damaged: it has no {spec.path}")
        return found


def _alike(source: h5py.Dataset, target: h5py.Dataset) -> bool:
    """Whether a packed chunk of one is a packed chunk of the other."""
    return (
        source.shape[1:] == target.shape[1:]
        and source.chunks == target.chunks
        and source.dtype == target.dtype
        and _pipeline(source) == _pipeline(target)
    )


def _pipeline(dataset: h5py.Dataset) -> list[int]:
    plist = dataset.id.get_create_plist()
    return [plist.get_filter(position)[0] for position in range(plist.get_nfilters())]


def _packed(source: h5py.Dataset, offset: tuple[int, ...]) -> bytes | None:
    """A packed chunk; None where it cannot be read or its checksum does not fit: unpacking it says what is wrong."""
    try:
        mask, packed = source.id.read_direct_chunk(offset)
    except (OSError, RuntimeError):
        return None
    if mask or fletcher32(packed[:-4]) != int.from_bytes(packed[-4:], "little"):
        return None
    return bytes(packed)


def _widen(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Rows of `shape`, with padding behind what is there."""
    if values.shape[1:] == shape:
        return values
    out = np.full((len(values), *shape), padding(values.dtype), values.dtype)
    out[(slice(None), *(slice(0, length) for length in values.shape[1:]))] = values
    return out
