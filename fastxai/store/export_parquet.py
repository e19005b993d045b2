"""A run as a Parquet table: one row for each image, target and method, for pandas, polars and DuckDB.

Columns that every row has come first; then those that methods fill: numbers they have for a target (`score`, `delta`),
and lists of numbers by superpixel (`weights`). Pictures and maps are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxai.errors import ArgumentError, MissingExtra
from fastxai.store import files
from fastxai.store.dataset import DataSet
from fastxai.store.files import finish_file, in_one_line, remove_if_there
from fastxai.store.formats import part_of
from fastxai.store.selection import Selection
from fastxai.store.sink import Sink
from fastxai.types import Status

_BLOCK = 256  # images in memory, and in a row group
_NUMBERS, _LIST = (("target",), ()), ("target", "segment")  # dimensions of fields that a table can hold

# Names and types as Arrow calls them, of what every method's row has.
_COMMON = {
    "image": "string",
    "digest": "string",
    "status": "uint8",
    "error": "string",
    "label": "int32",
    "height": "int32",
    "width": "int32",
    "predictions": "list<int32>",
    "probabilities": "list<float>",
    "target": "int32",
    "class": "int32",
    "class_name": "string",
    "probability": "float",
    "method": "string",
    "segments": "int32",
}


def write_parquet(selection: Selection, out: Path, progress: Callable[[int, int], None] | None) -> None:
    """Write the selection as the file `out`, which is there whole or not at all.

    label: null without one. target: its place among the K of an image, from 0; class: the class explained there;
    probability: of that class, null where it is not among the five predictions kept. Of a failed image all that a
    method would have found is null.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtra("export to Parquet", "parquet") from error
    table = _Table(selection, pa)
    part = part_of(out)
    with in_one_line(out):
        try:
            stream = files.disk.open(part)
            try:
                sink = _Stream(stream)
                with (
                    pa.PythonFile(sink, mode="w") as file,
                    pq.ParquetWriter(file, table.schema, compression="zstd", write_page_checksum=True) as writer,
                ):
                    for start in range(0, len(selection), _BLOCK):
                        stop = min(start + _BLOCK, len(selection))
                        writer.write_table(table.rows(start, stop))
                        sink.check()
                        if progress is not None:
                            progress(stop, len(selection))
                sink.check()
                files.disk.fsync(stream)
            finally:
                files.disk.close(stream)
            finish_file(part, out)
        except BaseException:
            remove_if_there(part)
            raise


class _Stream(Sink):
    """A file as pyarrow asks for it; the one below is closed by who opened it."""

    closed = False

    def close(self) -> None:
        """Nothing more will come."""
        self.closed = True


class _Table:
    """The rows of a selection, a block of images at a time."""

    def __init__(self, selection: Selection, pa: Any) -> None:
        self._selection, self._pa = selection, pa
        self._fields = {explainer.name: _fields(selection, explainer.name) for explainer in selection.explainers}
        types = {name: _arrow(pa, text) for name, text in _COMMON.items()} | self._field_types()
        described = {"fastxai": selection.run_json}
        self.schema = pa.schema([pa.field(name, kind) for name, kind in types.items()], metadata=described)

    def _field_types(self) -> dict[str, Any]:
        """Columns of the methods' own; fields of one name must be alike, but for the kind of number."""
        found: dict[str, tuple[np.dtype[Any], bool]] = {}
        for fields in self._fields.values():
            for name, spec in fields.items():
                listed, dtype = spec.ragged, np.dtype(spec.dtype)
                before = found.setdefault(name, (dtype, listed))
                if name in _COMMON or before[1] != listed:
                    raise ArgumentError(f"field must not be named like a column of another kind, got {name!r}")
                found[name] = (np.promote_types(before[0], dtype), listed)
        kinds = {name: (self._pa.from_numpy_dtype(dtype), listed) for name, (dtype, listed) in found.items()}
        return {name: self._pa.list_(kind) if listed else kind for name, (kind, listed) in kinds.items()}

    def rows(self, start: int, stop: int) -> Any:
        """The rows of images start..stop-1: by image, then by target, then by method."""
        selection = self._selection
        read = {path: selection.read(path, start, stop) for path in selection.whole.data_sets if _small(path)}
        own = {
            name: {field: selection.read(spec.path, start, stop) for field, spec in fields.items()}
            for name, fields in self._fields.items()
        }
        counts = {name: self._counts(name, start, stop) for name in self._fields}
        columns: dict[str, list[Any]] = {name: [] for name in self.schema.names}
        for i in range(stop - start):
            image = _of_image(read, i)
            fine = image["status"] == Status.OK
            for target in range(selection.config.targets_per_image):
                explained = self._of_target(read, i, target, fine)
                for name in self._fields:
                    found = _of_method(own[name], counts[name], i, target) if fine else {}
                    row = image | explained | {"method": name} | found
                    for column, values in columns.items():
                        values.append(row.get(column))
        return self._pa.Table.from_pydict(columns, schema=self.schema)

    def _counts(self, name: str, start: int, stop: int) -> NDArray[Any] | None:
        """Superpixels of each image, for a method that works on them."""
        explainer = next(one for one in self._selection.explainers if one.name == name)
        group = self._selection.whole.segments_of(explainer)
        return None if group is None else self._selection.read(f"{group}/count", start, stop)

    def _of_target(self, read: Mapping[str, NDArray[Any]], i: int, target: int, fine: bool) -> dict[str, Any]:
        if not fine:
            return {"target": target}
        explained, names = int(read["prediction/targets"][i, target]), self._selection.config.class_names
        place = np.flatnonzero(read["prediction/classes"][i] == explained)
        return {
            "target": target,
            "class": explained,
            "class_name": names[explained] if names is not None and 0 <= explained < len(names) else None,
            "probability": float(read["prediction/probabilities"][i, place[0]]) if len(place) else None,
        }


def _small(path: str) -> bool:
    return path.startswith(("image/", "prediction/")) and path != "image/pixels"


def _fields(selection: Selection, method: str) -> dict[str, DataSet]:
    """The fields of a method that a table can hold, by name."""
    found = {}
    for path, spec in selection.whole.data_sets.items():
        group, _, name = path.partition("/")
        if group == method and (spec.dims in _NUMBERS or spec.dims == _LIST):
            found[name] = spec
    return found


def _of_image(read: Mapping[str, NDArray[Any]], i: int) -> dict[str, Any]:
    known = read["prediction/classes"][i] >= 0  # a model may have fewer than five classes
    label = int(read["image/label"][i])
    return {
        "image": read["image/id"][i],
        "digest": read["image/digest"][i],
        "status": int(read["image/status"][i]),
        "error": read["image/error"][i],
        "label": label if label >= 0 else None,
        "height": int(read["image/size"][i, 0]),
        "width": int(read["image/size"][i, 1]),
        "predictions": read["prediction/classes"][i][known].tolist(),
        "probabilities": read["prediction/probabilities"][i][known].tolist(),
    }


def _of_method(own: Mapping[str, NDArray[Any]], counts: NDArray[Any] | None, i: int, target: int) -> dict[str, Any]:
    found: dict[str, Any] = {} if counts is None else {"segments": int(counts[i])}
    for name, values in own.items():
        value = values[i] if values.ndim == 1 else values[i, target]
        if value.ndim:  # by superpixel: without the padding behind the image's own
            value = value if counts is None else value[: int(counts[i])]
        found[name] = value.tolist()
    return found


def _arrow(pa: Any, text: str) -> Any:
    kinds = {"string": pa.string(), "uint8": pa.uint8(), "int32": pa.int32(), "float": pa.float32()}
    return pa.list_(kinds[text[5:-1]]) if text.startswith("list<") else kinds[text]
