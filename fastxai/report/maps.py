"""Every map as a picture of its own: plain colours at the model's resolution, for slides and for other programs."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from fastxai.errors import ArgumentError
from fastxai.report.names import file_stem
from fastxai.report.pictures import POSITIVE, SIGNED, limit_of
from fastxai.results import Found
from fastxai.store.files import finish_file, in_one_line
from fastxai.store.formats import check_new, part_of
from fastxai.types import Status

LIST = "maps.csv"
_COLUMNS = ("file", "image", "method", "target", "class", "class_name", "limit")


class Readable(Protocol):
    """A run."""

    @property
    def path(self) -> Path: ...
    @property
    def methods(self) -> Sequence[str]: ...
    def __len__(self) -> int: ...
    def positions(self, ids: Sequence[str]) -> list[int]: ...
    def read(self, start: int, stop: int, *, methods: Sequence[str]) -> Found: ...


def write_maps(
    run: Readable,
    out: str | os.PathLike[str],
    *,
    ids: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write one PNG for each image, method and target into the new folder `out`; returns its path.

    Files are called `gradcam/0003-birds-owl.png`, with `-target1` where several classes are explained, whatever an id
    holds; `maps.csv` says which picture is whose, and so does each itself (in the text "fastxai"). Class activation
    maps go from 0 to 1; of others `limit`, the 99th percentile of their size, is red, -limit is blue, 0 is white.
    Failed images have none. ids, methods: only these. progress: called with images done and images in all. One image
    is read at a time; the folder is there whole or not at all.

    Raises `ArgumentError` for ids and methods that are not in the run and for an `out` that is there already,
    `CannotRun` for a damaged run and a disk that is full.
    """
    folder = Path(out)
    check_new(folder, run.path)
    for name in methods or ():
        if name not in run.methods:
            raise ArgumentError(f"methods must be among {', '.join(run.methods) or '(none)'}, got {name!r}")
    names = [name for name in run.methods if methods is None or name in methods]
    positions = list(range(len(run))) if ids is None else sorted(set(run.positions(ids)))
    if not positions:
        raise ArgumentError(f"RUN must hold images to export, got none of {len(run)} in {str(run.path)!r}")
    part = part_of(folder)
    with in_one_line(folder):
        try:
            for name in names:
                (part / name).mkdir(parents=True)
            with open(part / LIST, "w", newline="", encoding="utf-8") as stream:
                table = csv.DictWriter(stream, _COLUMNS)
                table.writeheader()
                for done, position in enumerate(positions, start=1):
                    found = run.read(position, position + 1, methods=names)
                    table.writerows(_write_image(found, position, part, digits=max(4, len(str(len(run) - 1)))))
                    if progress is not None:
                        progress(done, len(positions))
            finish_file(part, folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return folder


def _write_image(found: Found, number: int, part: Path, digits: int) -> Iterator[dict[str, object]]:
    """The pictures of the only image in `found`, and their lines in the table."""
    if int(found.status[0]) != Status.OK:
        return
    stem, targets = file_stem(number, found.ids[0], digits=digits), found.targets.shape[1]
    for name in found:
        for target in range(targets):
            result = found[name].target(target)
            suffix = f"-target{target}" if targets > 1 else ""
            explained = int(found.targets[0, target])
            pixels, limit = coloured(result.maps[0, 0], positive="native" in result.data)
            about = {
                "file": f"{name}/{stem}{suffix}.png",
                "image": found.ids[0],
                "method": name,
                "target": target,
                "class": explained,
                "class_name": found.class_name(explained),
                "limit": limit,
            }
            text = PngInfo()
            text.add_itxt("fastxai", json.dumps(about, ensure_ascii=False))
            Image.fromarray(pixels).save(part / str(about["file"]), pnginfo=text)
            yield about


def coloured(values: Tensor, *, positive: bool) -> tuple[np.ndarray, float]:
    """A map float [H, W] as uint8 RGB [H, W, 3], and the value at the end of its colours; NaN is grey.

    positive: the map lies in [0, 1].
    """
    array = values.float().numpy()
    limit = 1.0 if positive else limit_of(values[values.isfinite()]) if values.isfinite().any() else 0.0
    share = array if positive else (array / (limit or 1.0) + 1) / 2
    colors = (POSITIVE if positive else SIGNED)(np.clip(share, 0, 1), bytes=True)[..., :3]
    colors[~np.isfinite(array)] = 128
    return np.ascontiguousarray(colors), limit
