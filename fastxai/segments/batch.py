"""Label a batch of pictures with every segmenter that its explainers need, in parallel."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np
import torch
from numpy.typing import NDArray

from fastxai.errors import ImageError
from fastxai.heap import apart
from fastxai.segments.base import Segmenter
from fastxai.types import ImageBatch, Segments, Status

MOST_SEGMENTS = 65_535  # labels are stored as uint16


def segment_batch(batch: ImageBatch, segmenters: Sequence[Segmenter], pool: Executor) -> None:
    """Fill `batch.segments` by `Segmenter.key`; a picture that cannot be segmented becomes a failed row.

    Labels are int32 [B, H, W], 0..S-1 in ascending order of the segmenter's own labels; 0 in failed rows, which
    count one segment.
    """
    height, width = batch.pixels.shape[-2:]
    for segmenter in dict.fromkeys(segmenters):
        good = [i for i, status in enumerate(batch.status) if status is Status.OK]
        labels = torch.from_numpy(apart((len(batch), height, width), np.int32))
        counts = torch.ones(len(batch), dtype=torch.int64)
        work = [pool.submit(_label, segmenter, batch.pixels[i].numpy(), batch.ids[i]) for i in good]
        for i, future in zip(good, work, strict=True):
            try:
                found = future.result()
            except ImageError as error:
                batch.status[i], batch.errors[i] = Status.METHOD, f"{segmenter.method}: {error}"
                continue
            labels[i] = torch.from_numpy(found)
            counts[i] = int(found.max()) + 1
        batch.segments[segmenter.key] = Segments(labels, counts)


def _label(segmenter: Segmenter, pixels: NDArray[np.uint8], image_id: str) -> NDArray[np.int32]:
    picture = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    if picture.shape[2] == 1:
        picture = picture.repeat(3, axis=2)
    raw = segmenter.label(picture, image_id)
    names, ranks = np.unique(raw, return_inverse=True)
    if len(names) > MOST_SEGMENTS:
        raise ImageError(f"{len(names)} segments are more than the {MOST_SEGMENTS} that a run can hold")
    return ranks.reshape(raw.shape).astype(np.int32)
