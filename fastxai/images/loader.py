"""A source -> batches of pictures in the model's geometry, made ahead in a bounded pool of threads.

Files are decoded by a process that each thread hands them to: what a hostile file does to its decoder, it does there.
Pictures in memory stay here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from fastxai.config import check_choice, check_int
from fastxai.decoding import LIMITS, Decoded, DecodeLimits, Load, Placed, apply_geometry, from_array, upright
from fastxai.decoding.decode import as_image_error, quiet_pillow
from fastxai.decoding.geometry import RESAMPLING
from fastxai.errors import ArgumentError, ImageError
from fastxai.heap import apart
from fastxai.images.entry import Entry, Label, Raw, Source
from fastxai.images.labels import resolve_label
from fastxai.types import ImageBatch, Preprocess, Status

Skip = Callable[[str, str], bool]


def load_batches(
    source: Source,
    preprocess: Preprocess,
    *,
    batch: int,
    class_names: tuple[str, ...] | None = None,
    class_keys: tuple[str, ...] | None = None,
    workers: int = 2,
    prefetch: int = 2,
    skip: Skip | None = None,
    limits: DecodeLimits = LIMITS,
) -> Iterator[ImageBatch]:
    """Batches of `batch` readable images in the order of `source`, the last one shorter.

    An image that cannot be had is a row with `Status.UNREADABLE`, its reason, and zeros; its digest is "" where not
    even its bytes could be read. Such rows ride along, so that they leave no gap in the model's work: a batch ends at
    `2 * batch` rows too. At most `batch * prefetch` images are held beside the batch handed out, and `workers` are
    decoded at a time. `skip(id, digest)`, asked in the worker threads before decoding, leaves an image out: the next
    one takes its place in the batch. A file that takes more than `limits` to decode, or crashes its decoder, is
    such a failed image. Closing the iterator stops the threads, and decoders that are at work.

    Raises `ArgumentError` at once where `source` and `preprocess` do not fit together, `CannotRun` where no decoder
    process can be started.
    """
    check_int("batch", batch, 1)
    check_int("workers", workers, 1)
    check_int("prefetch", prefetch, 1)
    check_choice("interpolation", preprocess.interpolation, tuple(RESAMPLING))
    wanted = (preprocess.channels, *preprocess.size)
    if source.normalized:
        if source.shape is not None and source.shape != wanted:
            raise ArgumentError(f"images must have the model's size {wanted} with normalized=True, got {source.shape}")
    elif preprocess.channels not in (1, 3):
        raise ArgumentError(
            f"images must be ready model input (normalized=True) for a model of {preprocess.channels} channels"
        )
    make = _Maker(preprocess, source.normalized, class_names, class_keys, skip, Load(limits))
    return _batches(source, make, batch, workers, batch * prefetch)


def _batches(source: Source, make: _Maker, batch: int, workers: int, ahead: int) -> Iterator[ImageBatch]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="fastxai-images")
    pending: deque[Future[_Row | None]] = deque()
    entries = source.stream()
    rows: list[_Row] = []
    readable = 0
    try:
        while True:
            while len(pending) < ahead and (entry := next(entries, None)) is not None:
                pending.append(pool.submit(make, entry))
            if not pending:
                break
            row = pending.popleft().result()
            if row is not None:
                rows.append(row)
                readable += row.placed is not None
            if readable == batch or len(rows) == 2 * batch:
                yield make.collate(rows)
                rows, readable = [], 0
        if rows:
            yield make.collate(rows)
    finally:  # also when the consumer stops early: what is being decoded is broken off, the rest never starts
        pool.shutdown(wait=False, cancel_futures=True)
        make.load.close()
        pool.shutdown(wait=True)
        if isinstance(entries, Generator):
            entries.close()


@dataclass(frozen=True)
class _Row:
    """One image on its way into a batch: pixels uint8 [C, H, W], inputs float32 [C, H, W], None where failed."""

    id: str
    digest: str
    label: int
    error: str = ""
    size: tuple[int, int] = (0, 0)
    placed: Placed | None = None
    inputs: np.ndarray | None = None


@dataclass(frozen=True)
class _Maker:
    """Entry -> row, in a worker thread; NumPy and Pillow only, so that torch's own threads stay out of the workers."""

    preprocess: Preprocess
    normalized: bool
    class_names: tuple[str, ...] | None
    class_keys: tuple[str, ...] | None
    skip: Skip | None
    load: Load

    def __call__(self, entry: Entry) -> _Row | None:
        digest, label = "", self._label(entry.label)
        raw: Raw | None = None
        error: str = ""
        try:
            with as_image_error(), quiet_pillow():
                raw = entry.read()
        except ImageError as problem:
            error = str(problem)
        if raw is not None:
            digest = raw.digest
            label = label if raw.label is None else self._label(raw.label)
        if self.skip is not None and self.skip(entry.id, digest):
            return None
        if raw is None:
            return _Row(entry.id, digest, label, error)
        try:
            if isinstance(raw.data, bytes) and not self.normalized:
                found, inputs = self.load.decode(raw.data, self.preprocess), None
            else:
                with as_image_error(), quiet_pillow():
                    found, inputs = self._place(raw.data)
        except ImageError as problem:
            return _Row(entry.id, digest, label, str(problem))
        return _Row(entry.id, digest, label, "", found.size, found.placed, inputs)

    def _label(self, label: Label) -> int:
        return resolve_label(label, self.class_names, self.class_keys)

    def _place(self, data: bytes | Image.Image | np.ndarray) -> tuple[Decoded, np.ndarray | None]:
        """A picture in memory in the model's geometry, and the model's input where it came ready."""
        height, width = self.preprocess.size
        channels, most = self.preprocess.channels, self.load.limits.pixels
        whole = np.array((0, 0, width, height), np.float32)
        if self.normalized:
            assert isinstance(data, np.ndarray)
            if data.shape != (channels, height, width):
                wanted = (channels, height, width)
                raise ImageError(f"ready model input must have shape {wanted}, got {data.shape}")
            return Decoded((height, width), Placed(self._rendition(data), whole)), data
        if isinstance(data, np.ndarray):
            picture = from_array(data, channels=channels, max_pixels=most)
            if data.shape[:2] == (height, width):  # a tensor or array of the model's size is taken as it is
                pixels = np.asarray(picture).reshape(height, width, -1).transpose(2, 0, 1)
                return Decoded((height, width), Placed(pixels, whole)), None
        else:
            assert isinstance(data, Image.Image)
            picture = upright(data, channels=channels, max_pixels=most)
        return Decoded((picture.height, picture.width), apply_geometry(picture, self.preprocess)), None

    def _rendition(self, inputs: np.ndarray) -> np.ndarray:
        """uint8 picture of ready model input: the normalisation undone, rounded, cut to 0..255; NaN is black."""
        mean = np.array(self.preprocess.mean, np.float32)[:, None, None]
        std = np.array(self.preprocess.std, np.float32)[:, None, None]
        pixels = np.nan_to_num((inputs * std + mean) * np.float32(255), nan=0.0, posinf=255.0, neginf=0.0)
        return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)

    def collate(self, rows: list[_Row]) -> ImageBatch:
        shape = (len(rows), self.preprocess.channels, *self.preprocess.size)
        pixels, crops = apart(shape, np.uint8), np.zeros((len(rows), 4), np.float32)
        inputs = apart(shape, np.float32) if self.normalized else None
        for i, row in enumerate(rows):
            if row.placed is not None:
                pixels[i], crops[i] = row.placed.pixels, row.placed.crop
            if inputs is not None and row.inputs is not None:
                inputs[i] = row.inputs
        return ImageBatch(
            ids=[row.id for row in rows],
            digests=[row.digest for row in rows],
            status=[Status.UNREADABLE if row.error else Status.OK for row in rows],
            errors=[row.error for row in rows],
            sizes=torch.tensor([row.size for row in rows], dtype=torch.int32),
            crops=torch.from_numpy(crops),
            labels=torch.tensor([row.label for row in rows], dtype=torch.int64),
            pixels=torch.from_numpy(pixels),
            inputs=None if inputs is None else torch.from_numpy(inputs),
        )
