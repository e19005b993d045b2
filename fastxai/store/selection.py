"""The part of a run that an export holds: which images, which methods, and how their values are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxai.errors import ArgumentError, CannotRun
from fastxai.explainers import Explainer
from fastxai.store.dataset import TEXT, DataSet, padding
from fastxai.store.handles import Handles
from fastxai.store.layout import Layout
from fastxai.store.reader import Run
from fastxai.store.schema import RunConfig
from fastxai.store.table import Table


class Selection:
    """Some images and methods of an open run, in run order.

    `config` and `explainers` describe a run of just these; `table` says where their rows are, `handles` reads them and
    is closed by `close`.
    """

    def __init__(self, run: Run, ids: Sequence[str] | None, methods: Sequence[str] | None, pixels: bool = True) -> None:
        """ids, methods: None for all; `ArgumentError` for those that the run does not have, and where none is left."""
        self.run = run
        self.positions = _positions(run, ids)
        kept = _kept(run, methods)
        self.explainers: tuple[Explainer, ...] = tuple(run.explainers[place] for place in kept)
        self.config: RunConfig = dataclasses.replace(
            run.config,
            explainers=tuple(run.config.explainers[place] for place in kept),
            pixels=run.config.pixels and pixels,
        )
        self.layout = Layout(self.config, self.explainers)
        self.table = Table(run.table.shard[self.positions], run.table.row[self.positions], run.generation)
        self.handles = Handles(run.shards, run.layout, run.config.digest)

    def __len__(self) -> int:
        return len(self.positions)

    def close(self) -> None:
        """Close the files."""
        self.handles.close()

    @property
    def run_json(self) -> str:
        """What run.json would say of a run of just these."""
        return dataclasses.replace(self.run.manifest, config=self.config).to_json()

    @cached_property
    def whole(self) -> Layout:
        """The data sets that other programs get: those of the run, and the maps that a compact one left out."""
        return Layout(dataclasses.replace(self.config, store="full"), self.explainers)

    def source(self, path: str) -> DataSet | None:
        """The data set of the run that `path` of the selection is read from; None for one that is rebuilt.

        Label maps may be called otherwise in the run: their names depend on which methods there are.
        """
        group, _, name = path.partition("/")
        return self.run.layout.data_sets.get(f"{self._groups.get(group, group)}/{name}")

    @cached_property
    def _groups(self) -> dict[str, str]:
        return {group: self.run.layout.segments[key] for key, group in self.layout.segments.items()}

    def shape(self, path: str) -> tuple[int, ...]:
        """The shape of one image's values, as long as the longest."""
        spec, source = self.whole.data_sets[path], self.source(path)
        if source is None:
            return tuple(self.whole.lengths[dim] for dim in spec.dims)
        numbers = np.unique(self.table.shard).tolist()
        found = [self._dataset(number, source).shape[1:] for number in numbers]
        return tuple(max(lengths) for lengths in zip(*found, strict=True))

    def _dataset(self, number: int, spec: DataSet) -> Any:
        dataset = self.handles.dataset(number, spec)
        if dataset is None:
            raise CannotRun(f"{self.handles.shards[number].path} is damaged: it has no {spec.path}")
        return dataset

    def read(self, path: str, start: int, stop: int) -> NDArray[Any]:
        """Values of images start..stop-1 of the selection, each of `shape(path)`; text as objects of type str."""
        spec, source = self.whole.data_sets[path], self.source(path)
        if source is None:
            name, _, field = path.partition("/")
            rebuilt: NDArray[Any] = self.run[name].at(self.positions[start:stop]).data[field].numpy()
            return rebuilt
        shard, row = self.table.shard[start:stop], self.table.row[start:stop]
        found = self.handles.gather(source, shard, row)
        if found is None:
            raise CannotRun(f"{self.handles.shards[int(shard[0])].path} is damaged: it has no {source.path}")
        if spec.dtype == TEXT:
            return np.array([value.decode("utf-8", "replace") for value in found.tolist()], dtype=object)
        return found


def widen(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Rows of `shape`, with padding behind what is there."""
    if values.shape[1:] == shape:
        return values
    out = np.full((len(values), *shape), padding(values.dtype), values.dtype)
    out[(slice(None), *(slice(0, length) for length in values.shape[1:]))] = values
    return out


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
