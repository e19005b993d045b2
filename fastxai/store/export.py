"""A run, or a part of it, for other programs: `export_run`, and the HDF5 file that holds everything itself.

The file is a shard of all images that also holds what run.json says. Packed chunks travel as they are, so that a run
is copied about as fast as its files are read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fastxai.errors import CannotRun, SchemaError
from fastxai.explainers import Explainer
from fastxai.store import files
from fastxai.store.chunks import fletcher32, pack
from fastxai.store.dataset import TEXT, DataSet
from fastxai.store.exported import RUN
from fastxai.store.files import finish_file, in_one_line, remove_if_there
from fastxai.store.formats import check_new, find_format, part_of
from fastxai.store.handles import consecutive
from fastxai.store.reader import open_run
from fastxai.store.selection import Selection, widen
from fastxai.store.sink import Sink
from fastxai.store.tree import LIBVER, ShardName, Tree, put_text

_ROWS = 1024  # rows a chunk of the small columns
_BLOCK = 16 * _ROWS  # rows of these in memory
_HASHED = 1 << 20  # bytes hashed at a time

OnImages = Callable[[int, int], None]


def export_run(
    run: str | Path,
    out: str | Path,
    *,
    format: str | None = None,
    ids: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    pixels: bool = True,
    explainers: Sequence[Explainer] | None = None,
    progress: OnImages | None = None,
) -> Path:
    """Write the run `run` as `out`, a file or folder in another format; returns its path.

    format: "h5", one file which `open_run` reads like a run; "zarr", a folder of named arrays, maps that a compact run
    left out rebuilt (needs `fastxai[zarr]`); "parquet", a table of one row per image, target and method without
    pictures and maps (needs `fastxai[parquet]`); None for what the ending of `out` says. ids, methods: only these, in
    run order. pixels: False leaves the pictures out. explainers: as for `open_run`. progress: called with images done
    and images in all. What is written is there whole or not at all, holds everything itself, and takes memory for some
    images only, however many there are.

    Raises `ArgumentError` for ids and methods that are not in the run and for an `out` that is there already,
    `MissingExtra` for a format whose package is not installed, `CannotRun` for a damaged run and a disk that is full.
    """
    out = Path(out)
    found = find_format(out, format)
    with open_run(run, explainers=explainers) as opened:
        check_new(out, opened.path)
        selection = Selection(opened, ids, methods, pixels)
        try:
            if found == "zarr":
                from fastxai.store.export_zarr import write_zarr

                write_zarr(selection, out, progress)
            elif found == "parquet":
                from fastxai.store.export_parquet import write_parquet

                write_parquet(selection, out, progress)
            else:
                _write_h5(selection, out, progress)
        finally:
            selection.close()
    return out


def _write_h5(selection: Selection, out: Path, progress: OnImages | None) -> None:
    copy, part = _Copy(selection), part_of(out)
    with in_one_line(out):
        try:
            _write(part, copy, selection.run_json, selection.run.chunk_rows(), progress)
            finish_file(part, out)
        except BaseException:
            remove_if_there(part)
            raise


def _write(part: Path, copy: _Copy, run_json: str, chunk_rows: Mapping[str, int], progress: OnImages | None) -> None:
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

    def __init__(self, selection: Selection) -> None:
        self._layout, self._handles, self._table = selection.layout, selection.handles, selection.table
        self._from: dict[str, DataSet] = {}
        for path in self._layout.data_sets:
            source = selection.source(path)
            assert source is not None  # what is stored is copied as it is
            self._from[path] = source

    def write(
        self,
        file: h5py.File,
        run_json: str,
        chunk_rows: Mapping[str, int],
        check: Callable[[], None],
        progress: OnImages | None,
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
            target[start:stop] = np.concatenate([widen(part, shape) for part in parts]).astype(target.dtype)

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
                packed = pack(widen(values, target.shape[1:])[0].astype(target.dtype, copy=False))
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
