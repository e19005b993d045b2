"""The tree of a shard: NeXus, so that HDF5 viewers open it as pictures.

A shard is built in memory and written by plain writes, because HDF5 does not survive a disk that fills up.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fastxai._version import __version__
from fastxai.explainers import Explainer
from fastxai.store import chunks
from fastxai.store.dataset import DataSet
from fastxai.store.layout import Layout
from fastxai.store.manifest import now
from fastxai.store.names import ENTRY, SCHEMA
from fastxai.store.scales import name_dimensions, name_plain

# Headers of this format carry checksums of their own; every HDF5 library since 2019 reads it.
LIBVER = ("v110", "v110")
_BLOCK = 1 << 26  # bytes by which the file in memory grows: so many that glibc gives them back when they are freed
Axes = Mapping[str, Mapping[str, tuple[str, ...]]]  # group -> data set -> names of its dimensions


@dataclass
class PackedRows:
    """One data set whose rows are chunks: packed bytes, one per image in their order, of rows of `shape`."""

    shape: tuple[int, ...]
    chunks: Iterator[bytes]


@dataclass(frozen=True)
class ShardName:
    """Who wrote a shard, as which one, and when it counts: the highest generation of an image wins."""

    worker: str
    number: int
    generation: int


def build_shard(
    layout: Layout,
    columns: Mapping[str, NDArray[Any] | list[str] | PackedRows],
    name: ShardName,
    rows: int,
    chunk_rows: Mapping[str, int] | None = None,
) -> bytes:
    """The bytes of a shard. `columns` by path under `entry/`.

    chunk_rows: rows a chunk of the model's work by probe kind, put on record where given.
    """
    with h5py.File("shard", "w", driver="core", backing_store=False, block_size=_BLOCK, libver=LIBVER) as file:
        tree = Tree(layout, file, name, rows)
        if chunk_rows:
            put_text(tree.entry, "process/rows", [json.dumps(dict(chunk_rows))])
        for path, values in columns.items():
            tree.data(layout.data_sets[path], values)
        tree.annotate()
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


class Tree:
    """The tree of one file: first its data sets, then `annotate`."""

    def __init__(self, layout: Layout, file: h5py.File, name: ShardName, rows: int) -> None:
        self.layout, self.file, self.rows = layout, file, rows
        self.entry = file.create_group(ENTRY)
        first = layout.explainers[0].name if layout.explainers else "image"
        set_attributes(file, NX_class="NXroot", default=ENTRY, creator=f"fastxai {__version__}")
        set_attributes(
            self.entry,
            NX_class="NXentry",
            default=first,
            schema=SCHEMA,
            configuration_digest=layout.config.digest,
            worker=name.worker,
            number=name.number,
            generation=name.generation,
            images=rows,
        )
        put_text(self.entry, "title", [f"fastxai: {', '.join(layout.config.methods)}"])
        process = self.entry.create_group("process")
        set_attributes(process, NX_class="NXprocess")
        put_text(process, "program", ["fastxai"])
        put_text(process, "version", [__version__])
        put_text(process, "date", [now()])
        put_text(process, "configuration", [json.dumps(layout.config.to_dict())])

    def data(self, spec: DataSet, values: NDArray[Any] | list[str] | PackedRows) -> None:
        """Create one data set with its values."""
        if isinstance(values, PackedRows):
            dataset = self._chunks(spec, values)
        elif isinstance(values, list):
            dataset = put_text(self.entry, spec.path, values)
        else:
            dataset = put(self.entry, spec.path, values)
        _describe(dataset, spec)

    def create(self, spec: DataSet, shape: tuple[int, ...], dtype: np.dtype[Any], rows: int) -> h5py.Dataset:
        """A data set without values yet: one of `shape` for each image, `rows` images a chunk."""
        dataset = self._create(spec, shape, stored_type(dtype), rows)
        _describe(dataset, spec)
        return dataset

    def _create(self, spec: DataSet, shape: tuple[int, ...], dtype: np.dtype[Any], rows: int) -> h5py.Dataset:
        chunk = (min(rows, self.rows), *shape)
        return self.entry.create_dataset(
            spec.path, (self.rows, *shape), dtype, chunks=chunk, **chunks.filters(dtype.itemsize)
        )

    def _chunks(self, spec: DataSet, values: PackedRows) -> h5py.Dataset:
        dataset = self._create(spec, values.shape, stored_type(np.dtype(spec.dtype)), 1)
        start = (0,) * len(values.shape)
        for row, chunk in enumerate(values.chunks):
            dataset.id.write_direct_chunk((row, *start), chunk)
        return dataset

    def annotate(self) -> None:
        """Name all dimensions, and make every group of data an NXdata where it has something to show."""
        axes = {group: name_dimensions(self.entry[group], dims, _put_axis) for group, dims in self.layout.dims.items()}
        process = self.entry["process"]
        name_plain(self.file, "line", [self.entry["title"], *(process[name] for name in process)], put)
        set_attributes(self.entry["prediction"], NX_class="NXcollection")
        if "pixels" in self.entry["image"]:
            self._plot("image", "pixels", axes)
            _annotate_pixels(self.entry["image/pixels"], self.layout.config.preprocess.channels)
        else:
            set_attributes(self.entry["image"], NX_class="NXcollection")
        for group, segmenter in self.layout.segmenters.items():
            self._plot(group, "labels", axes)
            set_attributes(self.entry[group], segmenter=json.dumps(segmenter.to_dict()))
        for explainer in self.layout.explainers:
            self._annotate_method(explainer, axes)

    def _annotate_method(self, explainer: Explainer, axes: Axes) -> None:
        group = self.entry[explainer.name]
        stored = [field for field in explainer.fields() if field.name in group]
        # "maps", or in a compact run what they are rebuilt from.
        shown = next((field for field in stored if len(field.dims) > 1), stored[0])
        self._plot(explainer.name, shown.name, axes)
        set_attributes(group, method=explainer.method, configuration=json.dumps(explainer.to_dict()))
        segments = self.layout.segments_of(explainer)
        if segments is not None:
            set_attributes(group, segments=segments)

    def _plot(self, group: str, signal: str, axes: Axes) -> None:
        set_attributes(self.entry[group], NX_class="NXdata", signal=signal, axes=axes[group][signal])


def _put_axis(group: h5py.Group, name: str, values: NDArray[Any]) -> h5py.Dataset:
    """Numbers along a dimension, with words for the axis of a plot."""
    dataset = put(group, name, values)
    unit = "row of the shard" if name == "image" else "pixel" if name in ("x", "y") else "number"
    set_attributes(dataset, long_name=f"{name} ({unit})")
    return dataset


def _describe(dataset: h5py.Dataset, spec: DataSet) -> None:
    set_attributes(dataset, long_name=spec.long_name or spec.path, dims=("image", *spec.dims))
    if spec.picture:
        set_attributes(dataset, interpretation="image")


def _annotate_pixels(dataset: h5py.Dataset, channels: int) -> None:
    interpretation = {1: "image", 3: "rgb-image", 4: "rgba-image"}.get(channels)
    if interpretation is None:
        return
    set_attributes(dataset, CLASS="IMAGE", IMAGE_VERSION="1.2", interpretation=interpretation)
    if channels == 3:
        set_attributes(dataset, IMAGE_SUBCLASS="IMAGE_TRUECOLOR", INTERLACE_MODE="INTERLACE_PIXEL")
    elif channels == 1:
        set_attributes(dataset, IMAGE_SUBCLASS="IMAGE_GRAYSCALE")


def put(group: h5py.Group, name: str, values: NDArray[Any], chunk: int | None = None) -> h5py.Dataset:
    """A column in chunks of `chunk` rows (all in one by default), packed and summed by HDF5."""
    if len(values) == 0:
        raise ValueError(f"{name} has no rows")
    rows = min(len(values), chunk or len(values))
    values = values.astype(stored_type(values.dtype), copy=False)
    return group.create_dataset(
        name, data=values, chunks=(rows, *values.shape[1:]), **chunks.filters(values.dtype.itemsize)
    )


def stored_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in the file: text that HDF5 knows as UTF-8, numbers with the low byte first."""
    if dtype.kind == "S":
        return np.dtype(h5py.string_dtype("utf-8", dtype.itemsize))
    return dtype.newbyteorder("<")


def put_text(group: h5py.Group, name: str, values: Sequence[str], chunk: int | None = None) -> h5py.Dataset:
    """A column of fixed-length UTF-8 text."""
    return put(group, name, encode_text(values), chunk)


def encode_text(values: Sequence[str]) -> NDArray[np.bytes_]:
    """UTF-8 bytes of one length, padded with NUL, typed so that HDF5 knows them as UTF-8."""
    encoded = [value.encode() for value in values]
    length = max([1, *(len(value) for value in encoded)])
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", length))


def set_attributes(item: Any, **values: str | int | tuple[str, ...]) -> None:
    """Attributes as fixed-length text or integers: text of variable length lies where no checksum covers it."""
    for name, value in values.items():
        if isinstance(value, int):
            item.attrs[name] = np.int64(value)
        elif isinstance(value, str):
            text = encode_text([value])
            item.attrs.create(name, text[0], (), text.dtype)
        else:
            item.attrs[name] = encode_text(value)
