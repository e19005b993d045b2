"""A run as a Zarr store (version 3): one array a data set, its dimensions named, for xarray, dask and napari.

Many images lie in one file of the store (Zarr's shards), each a chunk of its own that can be read alone, so that a
large run makes few files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastxai._version import __version__
from fastxai.errors import MissingExtra
from fastxai.store import files
from fastxai.store.dataset import TEXT, DataSet, padding
from fastxai.store.files import finish_file, in_one_line
from fastxai.store.formats import part_of
from fastxai.store.names import SCHEMA
from fastxai.store.selection import Selection, widen

_BLOCK = 256  # images between two reports
_FILE_BYTES = 16 << 20  # of an array's values in one file of the store, and in memory
_ROWS = 1024  # rows a chunk of the small columns


def write_zarr(selection: Selection, out: Path, progress: Callable[[int, int], None] | None) -> None:
    """Write the selection as the folder `out`, which is there whole or not at all."""
    try:
        import zarr
    except ImportError as error:
        raise MissingExtra("export to Zarr", "zarr") from error
    part = part_of(out)
    with in_one_line(out):
        try:
            files.disk.make_folder(part)
            root = zarr.create_group(part, zarr_format=3, overwrite=False, attributes=_about_run(selection))
            arrays = _create(root, selection)
            large = [path for path in arrays if selection.whole.data_sets[path].chunked_by_image]
            for start in range(0, len(selection), _ROWS):
                for path in (path for path in arrays if path not in large):
                    _copy(selection, path, arrays[path], start, min(start + _ROWS, len(selection)))
            for start in range(0, len(selection), _BLOCK):
                stop = min(start + _BLOCK, len(selection))
                for path in large:
                    rows = arrays[path].shards[0]
                    for first in range(start, stop, rows):
                        _copy(selection, path, arrays[path], first, min(first + rows, stop))
                if progress is not None:
                    progress(stop, len(selection))
            finish_file(part, out)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def _create(root: Any, selection: Selection) -> dict[str, Any]:
    """Empty arrays by path, in groups that say what they hold."""
    groups = {name: root.create_group(name, attributes=about) for name, about in _about_groups(selection).items()}
    created = {}
    for path, spec in selection.whole.data_sets.items():
        group, _, name = path.partition("/")
        created[path] = _create_array(groups[group], name, spec, (len(selection), *selection.shape(path)))
    return created


def _create_array(group: Any, name: str, spec: DataSet, shape: tuple[int, ...]) -> Any:
    from zarr.codecs import BloscCodec, Crc32cCodec

    layout: dict[str, Any] = {"chunks": (min(_ROWS, shape[0]), *shape[1:])}
    if spec.chunked_by_image:
        size = np.dtype(spec.dtype).itemsize * int(np.prod(shape[1:]))
        rows = 1 << max(0, min(_BLOCK, _FILE_BYTES // size).bit_length() - 1)  # a power of 2 divides a block
        layout = {"chunks": (1, *shape[1:]), "shards": (rows, *shape[1:])}
    text = spec.dtype == TEXT
    fill: Any = "" if text else 0 if spec.dtype.startswith("u") else padding(spec.dtype)
    return group.create_array(
        name,
        shape=shape,
        dtype="string" if text else spec.dtype,
        fill_value=fill,
        compressors=[BloscCodec(cname="zstd", clevel=3), Crc32cCodec()],
        dimension_names=("image", *spec.dims),
        attributes={"long_name": spec.long_name or spec.path},
        **layout,
    )


def _copy(selection: Selection, path: str, array: Any, start: int, stop: int) -> None:
    values = selection.read(path, start, stop)
    array[start:stop] = values if values.dtype == object else widen(values, array.shape[1:])


def _about_run(selection: Selection) -> dict[str, Any]:
    return {
        "title": f"fastxai: {', '.join(selection.config.methods)}",
        "program": "fastxai",
        "version": __version__,
        "schema": SCHEMA,
        "run": json.loads(selection.run_json),
    }


def _about_groups(selection: Selection) -> dict[str, dict[str, Any]]:
    """Attributes by group: what a method or a segmenter was configured with."""
    layout = selection.whole
    about: dict[str, dict[str, Any]] = {group: {} for group in layout.dims}
    for group, segmenter in layout.segmenters.items():
        about[group] = {"segmenter": segmenter.to_dict()}
    for explainer in selection.explainers:
        segments = layout.segments_of(explainer)
        about[explainer.name] = {
            "method": explainer.method,
            "configuration": json.loads(json.dumps(explainer.to_dict())),
            **({} if segments is None else {"segments": segments}),
        }
    return about
