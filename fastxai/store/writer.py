"""The shard writer: explained images in, committed shards out.

The shard is the commit: it is written as `.part`, synced, renamed, and its folder synced. There is no journal.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import filelock
import numpy as np
from numpy.typing import NDArray

from fastxai.config import check_float, check_int
from fastxai.errors import ArgumentError, CannotRun
from fastxai.explainers import Explainer
from fastxai.store import files
from fastxai.store.chunks import pack
from fastxai.store.dataset import TEXT, DataSet, padding
from fastxai.store.files import PART, commit_file, in_one_line, reason, seal
from fastxai.store.guard import ShardFile, attribute, inside, list_shards, open_shard, parse_shard_name
from fastxai.store.index import load_index
from fastxai.store.layout import Layout
from fastxai.store.manifest import read_manifest
from fastxai.store.names import ENTRY, SHARDS
from fastxai.store.schema import RunConfig, check_same
from fastxai.store.spool import Place, Spool
from fastxai.store.tree import PackedRows, ShardName, build_shard
from fastxai.types import ExplainedBatch, Status

_BACKLOG = 64 << 20  # bytes that wait for packing before `append` waits for them
_SHARD_BYTES = 1 << 30  # a shard closes at this size too (before packing), so that memory stays bounded


class ShardWriter:
    """Writes one worker's shards of a run that `create_run` began. Not for several threads at a time.

    A shard closes after `shard_images` images or `shard_seconds` seconds, whichever comes first; `commit_if_due` lets
    the clock be looked at while nothing is appended. Packing happens in `threads` threads while the model works.
    `generation` is one more than the highest in the run unless given: it makes re-explained images win.

    Raises `CannotRun` where another process is this worker, `RunMismatch` for a run with another configuration.
    As a context manager it commits what was appended, also when the body raises, and releases its lock.
    """

    def __init__(
        self,
        folder: str | Path,
        config: RunConfig,
        worker: str = "0",
        shard_images: int = 256,
        shard_seconds: float = 60.0,
        *,
        threads: int = 2,
        generation: int | None = None,
        explainers: Sequence[Explainer] | None = None,
    ) -> None:
        check_int("shard_images", shard_images, 1)
        check_float("shard_seconds", shard_seconds, 0, above=True)
        check_int("threads", threads, 1)
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", worker):
            raise ArgumentError(f"worker must be letters, digits, '-', '_' and '.', got {worker!r}")
        self.folder, self.worker = Path(folder), worker
        self.shard_images, self.shard_seconds = shard_images, float(shard_seconds)
        check_same(folder, read_manifest(folder).config, config)
        self._layout = Layout(config, config.build_explainers() if explainers is None else explainers)
        self._lock = self._take_lock()
        try:
            with in_one_line(self.folder / SHARDS):
                self._sweep()
                shards = list_shards(self.folder)
                self._number = 1 + max((shard.number for shard in shards if shard.worker == worker), default=-1)
                self.generation = self._next_generation(shards) if generation is None else generation
                self._spool = Spool(self.folder / SHARDS)
        except BaseException:
            self._lock.release()
            raise
        self._clear()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fastxai-pack")
        self._backlog: deque[tuple[Future[Place], int, list[Any], int]] = deque()
        self._backlog_bytes = 0
        self._shapes: dict[str, tuple[int, ...]] = {}  # of a row of each data set, as far as known
        self._failed = False
        self._closed = False
        self.committed = 0  # images in shards of this writer
        self.rows: Mapping[str, int] = {}  # a chunk, by probe kind, as in use at the commit; put on record in the shard

    def append(self, batch: ExplainedBatch) -> None:
        """Take in the images of a batch, failed ones included; its tensors must not be changed afterwards."""
        if self._closed or self._failed:
            raise CannotRun(f"worker {self.worker!r} of {self.folder} is closed")
        arrays = self._arrays(batch)
        for row in range(len(batch.images)):
            self._append_row(arrays, row)
            if self._count >= self.shard_images or self._bytes >= _SHARD_BYTES:
                self.commit()
        self.commit_if_due()

    def commit_if_due(self) -> None:
        """Commit where the oldest image not yet committed has waited for `shard_seconds`."""
        if self._count and time.monotonic() - self._since >= self.shard_seconds:
            self.commit()

    def commit(self) -> None:
        """Write everything appended so far as a shard; nothing where there is nothing."""
        if not self._count:
            return
        path = self.folder / SHARDS / f"part-{self.worker}-{self._number:05d}.h5"
        self._failed = True  # until it has gone well: a writer that could not write does not try again
        name = ShardName(self.worker, self._number, self.generation)
        with in_one_line(path):
            columns = {path: self._column(spec) for path, spec in self._layout.data_sets.items()}
            image = build_shard(self._layout, columns, name, self._count, self.rows)
            commit_file(path, image, seal(image))
            self.committed += self._count
            self._number += 1
            self._begin()
        self._failed = False

    def close(self) -> None:
        """Commit what is left and release the worker's name. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        try:
            if not self._failed:
                self.commit()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
            try:
                with in_one_line(self.folder / SHARDS):
                    self._spool.close()
            finally:
                self._lock.release()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _take_lock(self) -> filelock.BaseFileLock:
        path = self.folder / SHARDS / f"part-{self.worker}.lock"
        try:
            return files.disk.lock(path)
        except filelock.Timeout as error:
            raise CannotRun(
                f"worker {self.worker!r} is at work in {self.folder} already: wait for it, or use another worker name"
            ) from error
        except OSError as error:
            raise CannotRun(f"{path} cannot be written: {reason(error)}") from error

    def _sweep(self) -> None:
        """Remove what this worker left half written: after a crash, and only with its lock in hand."""
        for path in (self.folder / SHARDS).glob(f"*{PART}"):
            parsed = parse_shard_name(path.name.removesuffix(PART))
            if parsed is not None and parsed[0] == self.worker:
                files.disk.unlink(path)

    def _next_generation(self, shards: Sequence[ShardFile]) -> int:
        indexed = load_index(self.folder, shards, self._layout.config.digest)
        if indexed is not None:
            indexed.close()
            return indexed.generation + 1
        found = 0
        for shard in shards:
            with open_shard(shard.path, self._layout.config.digest) as file:
                found = max(found, int(attribute(inside(file, ENTRY), "generation")))
        return found + 1

    def _clear(self) -> None:
        self._rows: dict[str, list[Any]] = {}
        self._count = self._bytes = 0
        self._since = 0.0

    def _begin(self) -> None:
        """Start an empty shard."""
        self._clear()
        self._spool.clear()

    def _arrays(self, batch: ExplainedBatch) -> dict[str, NDArray[Any] | list[str]]:
        """Every column of a batch, checked, so that a row is either taken in whole or not at all."""
        images = batch.images
        sources: dict[str, Any] = {
            "image/id": images.ids,
            "image/digest": images.digests,
            # A message of a foreign decoder may hold anything; ids were escaped where they were made.
            "image/error": [e.replace("\0", "").encode(errors="backslashreplace").decode() for e in images.errors],
            "image/status": np.array([int(status) for status in images.status]),
            "image/size": images.sizes.numpy(),
            "image/crop": images.crops.numpy(),
            "image/label": images.labels.numpy(),
            "prediction/classes": batch.classes.numpy(),
            "prediction/probabilities": batch.probabilities.numpy(),
            "prediction/targets": batch.targets.numpy(),
        }
        pixels = images.pixels.numpy()
        sources["image/pixels"] = pixels[:, 0] if pixels.shape[1] == 1 else pixels.transpose(0, 2, 3, 1)
        for key, group in self._layout.segments.items():
            sources[f"{group}/labels"], sources[f"{group}/count"] = _clean_segments(batch, key)
        for name, fields in batch.methods.items():
            sources |= {f"{name}/{field}": tensor.detach().numpy() for field, tensor in fields.items()}
        found: dict[str, NDArray[Any] | list[str]] = {}
        for path, spec in self._layout.data_sets.items():
            if path in sources:
                found[path] = sources[path] if spec.dtype == TEXT else sources[path].astype(spec.dtype, copy=False)
                self._check(spec, found[path], len(images))
            elif Status.OK in images.status:
                raise ArgumentError(f"batch must have {path}, got {', '.join(sources)}")
        return found

    def _check(self, spec: DataSet, values: NDArray[Any] | list[str], rows: int) -> None:
        if len(values) != rows:
            raise ArgumentError(f"{spec.path} must have {rows} rows, got {len(values)}")
        if isinstance(values, list):
            try:
                "".join(values).encode()
            except UnicodeEncodeError as error:
                raise ArgumentError(f"{spec.path} must be text that UTF-8 can hold, got {error.object!r}") from error
            return
        want = [self._layout.lengths.get(dim, length) for dim, length in zip(spec.dims, values.shape[1:], strict=False)]
        if values.ndim != 1 + len(spec.dims) or list(values.shape[1:]) != want:
            raise ArgumentError(f"{spec.path} must have the shape (images, {', '.join(spec.dims)}), got {values.shape}")
        before = self._shapes.get(spec.path)
        if before is not None and before != values.shape[1:] and not spec.ragged:
            raise ArgumentError(f"{spec.path} must have rows of {before} like those before, got {values.shape[1:]}")

    def _append_row(self, arrays: dict[str, NDArray[Any] | list[str]], row: int) -> None:
        if not self._count:
            self._since = time.monotonic()
        for path, spec in self._layout.data_sets.items():
            rows = self._rows.setdefault(path, [])
            if path not in arrays:
                rows.append(None)
                continue
            value: Any = arrays[path][row]
            if spec.chunked_by_image and not spec.ragged:
                rows.append(self._pack(value, rows))
            else:
                rows.append(value)
            if spec.dtype != TEXT:
                self._shapes[path] = value.shape
                self._bytes += value.nbytes
        self._count += 1

    def _pack(self, value: NDArray[Any], rows: list[Any]) -> Future[Place]:
        """Pack the next of `rows` in a thread, into the spool; wait for the oldest where too much is waiting.

        Of those that are done only the place is kept: a future takes more than a kilobyte.
        """
        while self._backlog and (self._backlog_bytes > _BACKLOG or self._backlog[0][0].done()):
            future, size, column, row = self._backlog.popleft()
            self._backlog_bytes -= size
            if future.exception() is None and row < len(column):  # waits; what went wrong is raised by the commit
                column[row] = future.result()
        future = self._pool.submit(self._put_away, value)
        self._backlog.append((future, value.nbytes, rows, len(rows)))
        self._backlog_bytes += value.nbytes
        return future

    def _put_away(self, value: NDArray[Any]) -> Place:
        return self._spool.put(pack(value))

    def _column(self, spec: DataSet) -> NDArray[Any] | list[str] | PackedRows:
        # Cut: an interrupt may have stopped `append` between two columns of a row.
        rows = self._rows[spec.path][: self._count]
        if spec.dtype == TEXT:
            return rows
        # A batch without a readable picture has no fields: its rows are empty, 1 long where no length is known yet.
        unknown = tuple(self._layout.lengths.get(dim, 1) for dim in spec.dims)
        shape = self._shapes.get(spec.path, unknown)
        empty = np.full(shape, padding(spec.dtype) if np.dtype(spec.dtype).kind != "u" else 0, spec.dtype)
        rows = [empty if row is None else row for row in rows]
        if spec.ragged:
            rows = _pad(rows, spec)
            shape = rows[0].shape
        if spec.chunked_by_image:
            waiting = [
                row if isinstance(row, Future | tuple) else self._pool.submit(self._put_away, row) for row in rows
            ]
            places = (row.result() if isinstance(row, Future) else row for row in waiting)
            return PackedRows(shape, (self._spool.get(place) for place in places))
        return np.stack(rows)


def _pad(rows: list[NDArray[Any]], spec: DataSet) -> list[NDArray[Any]]:
    """Rows of the length of the longest; at least 1, because a chunk cannot be empty."""
    axis = spec.dims.index("segment")
    length = max(1, *(row.shape[axis] for row in rows))
    padded = []
    for row in rows:
        width = [(0, length - size if position == axis else 0) for position, size in enumerate(row.shape)]
        padded.append(np.pad(row, width, constant_values=padding(spec.dtype)))
    return padded


def _clean_segments(batch: ExplainedBatch, key: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Label maps uint16 and counts; zeros for images without valid ones, so that a run never depends on leftovers."""
    found = batch.images.segments.get(key)
    if found is None and Status.OK not in batch.images.status:
        empty = batch.images.pixels[:, 0].numpy()
        return np.zeros_like(empty, dtype=np.uint16), np.zeros(len(empty), dtype=np.int32)
    if found is None:
        raise ArgumentError(f"batch must have the segments of {key}, got {', '.join(batch.images.segments) or 'none'}")
    labels, counts = found.labels.numpy(), found.counts.numpy()
    good = (counts > 0) & np.array([status != Status.UNREADABLE for status in batch.images.status])
    if labels.size:
        flat = labels.reshape(len(labels), -1)
        good &= (flat.min(1) >= 0) & (flat.max(1) < counts)
    if good.any() and counts[good].max() > 1 << 16:
        raise ArgumentError(f"segments must be at most {1 << 16} an image, got {counts.max()}")
    return np.where(good[:, None, None], labels, 0).astype(np.uint16), np.where(good, counts, 0).astype(np.int32)
