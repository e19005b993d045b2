"""Reading runs: the same shapes as results in hand, for one image, a slice or a list of ids."""

from __future__ import annotations

import html
import importlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastxai.errors import ArgumentError, CannotRun
from fastxai.explainers import Explainer
from fastxai.results import Found, RunSummary
from fastxai.store.dataset import TEXT, DataSet
from fastxai.store.exported import read_exported
from fastxai.store.guard import ShardFile, list_shards, recorded_rows
from fastxai.store.handles import Handles
from fastxai.store.index import load_index
from fastxai.store.layout import Layout
from fastxai.store.manifest import Manifest, read_manifest
from fastxai.store.method_reader import MethodReader
from fastxai.store.schema import RunConfig, settings_to_dict
from fastxai.store.table import Table, scan
from fastxai.types import Status

_SHOWN = 10  # images that a notebook lists

# What a run holds as small types, as the types of results in hand.
_WIDE = {"image/label": torch.int64, "prediction/targets": torch.int64}


def open_run(path: str | Path, *, explainers: Sequence[Explainer] | None = None) -> Run:
    """The run in folder `path`, as its shards are now: a snapshot, shards that are written later are not seen.

    `path` may also be a file that `export_run` wrote.

    explainers: those of the run, for configurations that are not among the installed ones. Raises `ArgumentError`
    for a folder that is not a run, `SchemaError` for a newer schema or links that lead out of the run, `CannotRun`
    for a damaged file.
    """
    folder = Path(path)
    if folder.is_file():
        manifest, shard, table = read_exported(folder)
        return Run(folder, manifest, explainers, [shard], table)
    manifest = read_manifest(folder)
    return Run(folder, manifest, explainers, list_shards(folder))


class Run:
    """Explanations on disk. `run["lime"][i]` is one image's `MethodResult`, `run["lime"][a:b]` that of a slice.

    Images are in run order: shards by worker and number, rows as they were written; of an image that was explained
    again only the latest row is there. Everything is read when it is asked for. `summary` says what the call of
    `fastxai.run` that returned this run did; None for a run that was opened.
    """

    summary: RunSummary | None = None

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        explainers: Sequence[Explainer] | None,
        shards: Sequence[ShardFile],
        table: Table | None = None,
    ) -> None:
        """table: the rows that count; None to take them from the index or, where it does not fit, the shards."""
        self.path, self.manifest, self.shards = path, manifest, tuple(shards)
        self._given = explainers
        self._columns = Layout(manifest.config, ())
        self._handles = Handles(self.shards, self._columns, manifest.config.digest)
        try:
            if table is None:
                table = load_index(path, self.shards, manifest.config.digest)
            self.table = scan(self.shards, self._handles) if table is None else table
        except BaseException:
            self._handles.close()
            raise

    @property
    def config(self) -> RunConfig:
        return self.manifest.config

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, as they were given."""
        return self.config.methods

    @property
    def generation(self) -> int:
        """The highest generation of any shard; 0 without shards."""
        return self.table.generation

    @cached_property
    def explainers(self) -> tuple[Explainer, ...]:
        """The configurations of the methods."""
        return self.config.build_explainers() if self._given is None else tuple(self._given)

    @cached_property
    def layout(self) -> Layout:
        return Layout(self.config, self.explainers)

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[str]:
        return iter(self.methods)

    def __getitem__(self, name: str) -> MethodReader:
        if name not in self.methods:
            raise ArgumentError(f"method must be one of {', '.join(self.methods) or '(none)'}, got {name!r}")
        return MethodReader(self, self.explainers[self.methods.index(name)])

    def __repr__(self) -> str:
        return f"<Run {str(self.path)!r}: {len(self)} images, methods {', '.join(self.methods)}>"

    def _repr_html_(self) -> str:
        """The first images as notebooks show results in hand."""
        if not len(self):
            return html.escape(repr(self))
        shown: str = importlib.import_module("fastxai.report.notebook").found_html(self.read(0, _SHOWN), len(self))
        return shown

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self._given)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files. Reading opens them again, except where an index is in use."""
        self._handles.close()
        self.table.close()

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._text("image/id"))

    @cached_property
    def digests(self) -> tuple[str, ...]:
        return tuple(self._text("image/digest"))

    @cached_property
    def status(self) -> Tensor:
        """uint8 [N], see `fastxai.types.Status`."""
        return self._tensor("image/status")

    @property
    def failures(self) -> dict[str, str]:
        """Ids of the failed images and their reasons."""
        failed = (self.status != int(Status.OK)).nonzero().flatten().numpy()
        if not len(failed):
            return {}
        errors = _decode(self._column("image/error", failed))
        return {self.ids[position]: error for position, error in zip(failed.tolist(), errors, strict=True)}

    @property
    def labels(self) -> Tensor:
        """int64 [N], -1 without one."""
        return self._tensor("image/label")

    @property
    def predictions(self) -> Tensor:
        """The most probable classes, int32 [N, 5], -1 beyond the model's classes."""
        return self._tensor("prediction/classes")

    @property
    def probabilities(self) -> Tensor:
        """Their probabilities, float32 [N, 5]."""
        return self._tensor("prediction/probabilities")

    @property
    def targets(self) -> Tensor:
        """The classes explained, int64 [N, K]."""
        return self._tensor("prediction/targets")

    @cached_property
    def _position(self) -> dict[str, int]:
        return {image: position for position, image in enumerate(self.ids)}

    def done(self, *, failed: bool = True) -> dict[str, str]:
        """Ids that need no more work and the digests they had; without the failed ones if `failed` is False."""
        good = (self.status == int(Status.OK)).tolist()
        pairs = zip(self.ids, self.digests, good, strict=True)
        return {image: digest for image, digest, fine in pairs if fine or failed}

    def read(self, start: int = 0, stop: int | None = None, *, methods: Sequence[str] | None = None) -> Found:
        """Images start..stop-1 of the run, in memory; of all methods or the named ones."""
        start, stop, _ = slice(start, stop).indices(len(self))
        return self._found(np.arange(start, max(start, stop)), methods)

    def found(self, ids: Sequence[str], *, methods: Sequence[str] | None = None) -> Found:
        """The images with these ids, in this order, in memory."""
        return self._found(np.array(self.positions(ids), dtype=np.int64), methods)

    def positions(self, ids: Sequence[str]) -> list[int]:
        """Where the images with these ids stand in the run; `ArgumentError` for one that is not there."""
        unknown = [image for image in ids if image not in self._position]
        if unknown:
            raise ArgumentError(f"ids must be those of images in {str(self.path)!r}, got {unknown[0]!r}")
        return [self._position[image] for image in ids]

    def info(self) -> dict[str, Any]:
        """What the run is, as plain data."""
        manifest, config = self.manifest, self.config
        return {
            "run": str(self.path),
            "source": manifest.source,
            "created": manifest.created,
            "images": len(self),
            "failed": int((self.status != int(Status.OK)).sum()),
            "methods": [dict(explainer) for explainer in config.explainers],
            "model": dict(config.model),
            "targets": config.targets,
            "seed": config.seed,
            "settings": settings_to_dict(manifest.settings),
            "halved": self._halved(),
            "store": config.store,
            "pixels": config.pixels,
            "picture_size": list(config.preprocess.size),
            "shards": len(self.shards),
            "bytes": sum(shard.size for shard in self.shards),
            "indexed": self.table.index is not None,
            "versions": dict(manifest.versions),
        }

    def chunk_rows(self) -> dict[str, int]:
        """Rows a chunk by probe kind, the fewest in any shard; empty where none says."""
        fewest: dict[str, int] = {}
        for shard in self.shards:
            for kind, rows in recorded_rows(shard.path, self.config.digest).items():
                fewest[kind] = min(rows, fewest.get(kind, rows))
        return fewest

    def _halved(self) -> dict[str, int]:
        """Rows a chunk of the probe kinds that ran out of memory."""
        planned = self.manifest.settings.rows
        return {kind: rows for kind, rows in self.chunk_rows().items() if rows < planned.get(kind, rows)}

    def _found(self, positions: NDArray[np.int64], methods: Sequence[str] | None) -> Found:
        if not len(positions):
            raise ArgumentError(f"images must be at least one of the {len(self)} in {str(self.path)!r}, got none")
        names = self.methods if methods is None else tuple(methods)
        return Found(
            ids=tuple(self._text("image/id", positions)),
            digests=tuple(self._text("image/digest", positions)),
            status=self._tensor("image/status", positions),
            errors=tuple(self._text("image/error", positions)),
            sizes=self._tensor("image/size", positions),
            crops=self._tensor("image/crop", positions),
            labels=self._tensor("image/label", positions),
            images=self._pixels(positions),
            predictions=self._tensor("prediction/classes", positions),
            probabilities=self._tensor("prediction/probabilities", positions),
            targets=self._tensor("prediction/targets", positions),
            methods={name: self[name].at(positions) for name in names},
            preprocess=self.config.preprocess,
            seed=self.config.seed,
            class_names=self.config.class_names,
        )

    def _pixels(self, positions: NDArray[np.int64]) -> Tensor | None:
        spec = self._columns.data_sets.get("image/pixels")
        if spec is None:
            return None
        pixels = torch.from_numpy(self.gather(spec, positions))
        return pixels.unsqueeze(1) if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2).contiguous()

    def gather(self, spec: DataSet, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Rows of a data set at positions of the run; `CannotRun` where the shards do not have it."""
        found = self._handles.gather(spec, self.table.shard[positions], self.table.row[positions])
        if found is None:
            raise CannotRun(f"{self.path} is damaged: its shards have no {spec.path}; see `fastxai verify`")
        return found

    def _column(self, path: str, positions: NDArray[np.int64] | None = None) -> NDArray[Any]:
        spec = self._columns.data_sets[path]
        if not len(self):
            shape = tuple(self._columns.lengths[dim] for dim in spec.dims)
            return np.zeros((0, *shape), "S1" if spec.dtype == TEXT else spec.dtype)
        return self.table.column(spec, self._handles, slice(0, len(self)) if positions is None else positions)

    def _tensor(self, path: str, positions: NDArray[np.int64] | None = None) -> Tensor:
        values = torch.from_numpy(self._column(path, positions))
        return values.to(_WIDE.get(path, values.dtype))

    def _text(self, path: str, positions: NDArray[np.int64] | None = None) -> list[str]:
        return _decode(self._column(path, positions))


def _decode(values: NDArray[Any]) -> list[str]:
    return [value.decode("utf-8", "replace") for value in values.tolist()]


def _reopen(path: Path, explainers: Sequence[Explainer] | None) -> Run:
    return open_run(path, explainers=explainers)
