"""Which data sets a shard holds: one table for the writer, the reader and the verifier."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import h5py

from fastxai.config import Config
from fastxai.errors import ArgumentError
from fastxai.explainers import Explainer
from fastxai.store.dataset import TEXT, DataSet, check_data_set
from fastxai.store.schema import RunConfig
from fastxai.types import PREDICTIONS

# Dimensions that have an axis data set in every group that shows data, so that no field may be called so.
AXES = ("image", "target", "segment", "channel", "y", "x", "cam_y", "cam_x")

_COLUMNS = (
    DataSet("image/id", TEXT, (), "path of the image relative to its source"),
    DataSet("image/digest", TEXT, (), "BLAKE2b-128 of the file's bytes, or of the pixels"),
    DataSet("image/status", "uint8", (), "0: explained; otherwise failed, see error"),
    DataSet("image/error", TEXT, (), "why the image could not be explained"),
    DataSet("image/size", "int32", ("extent",), "height and width of the original, in pixels"),
    DataSet("image/crop", "float32", ("box",), "left, top, right, bottom of what the model saw, in the original"),
    DataSet("image/label", "int32", (), "class known beforehand, -1: none"),
    DataSet("prediction/classes", "int32", ("rank",), "most probable classes"),
    DataSet("prediction/probabilities", "float32", ("rank",), "their probabilities"),
    DataSet("prediction/targets", "int32", ("target",), "classes explained"),
)
COLUMNS = tuple(column.path for column in _COLUMNS)


class Layout:
    """The data sets of a run's shards, by path under `entry/`, in writing order.

    `segments`: key of a segmenter -> its group, `segments` for the first one; further ones carry a digest of their key.
    """

    def __init__(self, config: RunConfig, explainers: Sequence[Explainer]) -> None:
        self.config, self.explainers = config, tuple(explainers)
        height, width = config.preprocess.size
        channels = config.preprocess.channels
        self.lengths = {
            "target": config.targets_per_image,
            "y": height,
            "x": width,
            "channel": channels,
            "rank": PREDICTIONS,
            "extent": 2,
            "box": 4,
        }
        self.segments: dict[str, str] = {}
        self.segmenters: dict[str, Config] = {}  # group -> segmenter
        self.data_sets: dict[str, DataSet] = {}
        for column in _COLUMNS:
            self._add(column)
        if config.pixels:
            # One-channel pictures have no channel axis, so that viewers show them.
            dims = ("y", "x") if channels == 1 else ("y", "x", "channel")
            self._add(DataSet("image/pixels", "uint8", dims, "what the model saw, before normalisation"))
        for explainer in self.explainers:
            for segmenter in explainer.segmenters():
                self._add_segmenter(segmenter)
        for explainer in self.explainers:
            for field in explainer.kept_fields(config.targets_per_image, compact=config.store == "compact"):
                if field.name in AXES:
                    raise ArgumentError(f"field must not be named like an axis ({', '.join(AXES)}), got {field.name!r}")
                path = f"{explainer.name}/{field.name}"
                self._add(DataSet(path, field.dtype, field.dims, field.long_name))

    def _add(self, data_set: DataSet) -> None:
        self.data_sets[data_set.path] = data_set

    def _add_segmenter(self, segmenter: Any) -> None:
        if segmenter.key in self.segments:
            return
        digest = hashlib.blake2b(segmenter.key.encode(), digest_size=4).hexdigest()
        group = f"segments-{digest}" if self.segments else "segments"
        self.segments[segmenter.key] = group
        self.segmenters[group] = segmenter
        self._add(DataSet(f"{group}/labels", "uint16", ("y", "x"), "superpixel of every pixel, from 0"))
        self._add(DataSet(f"{group}/count", "int32", (), "superpixels of the image"))

    @property
    def dims(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Dimensions of every data set, `image` first: group -> data set -> names."""
        found: dict[str, dict[str, tuple[str, ...]]] = {}
        for path, spec in self.data_sets.items():
            group, _, name = path.partition("/")
            found.setdefault(group, {})[name] = ("image", *spec.dims)
        return found

    def segments_of(self, explainer: Explainer) -> str | None:
        """The group with the label maps of a method, None for a method without superpixels."""
        segmenters = explainer.segmenters()
        return self.segments[segmenters[0].key] if segmenters else None

    def check(self, dataset: h5py.Dataset, expected: DataSet, rows: int | None = None) -> None:
        """Refuse a data set of another shape or type than the run's, before anything is allocated for it."""
        check_data_set(dataset, expected, self.lengths, rows)
