"""What a run will need, told before it starts."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fastxai.cli import show

if TYPE_CHECKING:
    from fastxai.explainers import Explainer
    from fastxai.types import Preprocess

LARGE_IMAGES = 200
LARGE_BYTES = 1e9


def bytes_per_image(
    explainers: Iterable[Explainer], preprocess: Preprocess, *, targets: int, pixels: bool, compact: bool
) -> int:
    """Bytes an image takes in the shards before compression: everything with a value a pixel, the rest is small."""
    height, width = preprocess.size
    channels = preprocess.channels
    counts = {"target": targets, "channel": channels, "y": height, "x": width}
    values = 0
    segmenters = set()
    for explainer in explainers:
        segmenters |= {segmenter.key for segmenter in explainer.segmenters()}
        for field in explainer.kept_fields(targets, compact):
            if {"y", "x"} <= set(field.dims):
                size = 4
                for dim in field.dims:
                    size *= counts[dim]
                values += size
    return values + height * width * (2 * len(segmenters) + channels * pixels)


def announce(images: int, each: int, out: Path) -> None:
    """Say on stderr how much disk a large run may take; small runs need no announcement."""
    if images < LARGE_IMAGES and images * each < LARGE_BYTES:
        return
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    print(
        f"fastxai: {images} images, at most {show.size(images * each)} on disk before compression, "
        f"{show.size(free)} are free; the time left is shown as soon as it is known",
        file=sys.stderr,
    )
