"""One HTML file of a run that needs nothing else: summary, gallery, and every map of every image."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fastxai.errors import ArgumentError, CannotRun
from fastxai.overlap import ahead
from fastxai.report import encode
from fastxai.report.blocks import Blocks, json_text
from fastxai.report.detail import LEVELS, Level, detail, kind, thumbnail
from fastxai.report.names import method_label
from fastxai.report.options import ReportOptions
from fastxai.report.pictures import BOTH, FIRST, LINE, POSITIVE, SECOND, SIGNED
from fastxai.report.scores import read_scores
from fastxai.report.summary import Kept, size_text, summarise_run
from fastxai.report.tally import Tally, masks_of
from fastxai.results import Found
from fastxai.types import Status

if TYPE_CHECKING:
    from fastxai.store import Run  # loads the explainers and what they need

SCRIPTS = ("core", "theme", "filters", "gallery", "stage", "viewer", "keys")  # in this order
THUMBNAILS = 48  # of one data block
_ENTRY = 400  # bytes of an image in the index, about
_SHELL = 150_000  # bytes of a page without images, about
_SAMPLES = 9  # images that the fineness of all is settled by
_AT_ONCE = 64 << 20  # bytes of maps read at a time
_SLACK = 512  # bytes for numbers that turn out longer than those the room was measured with
_MARGIN = 0.97  # of the size is planned for: images differ


@dataclass(frozen=True)
class Written:
    """The file that `write_report` wrote: its size in bytes, the images explained, how many of them it shows whole and
    how many with a thumbnail, and the longer side of their pictures at most, in pixels."""

    path: Path
    size: int
    images: int
    whole: int
    thumbnails: int
    side: int


def write_report(
    run: Run,
    out: str | os.PathLike[str],
    *,
    options: ReportOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Write a run as one HTML file; the run is read once, image by image, so that memory stays flat.

    The file asks for nothing from outside and runs no script but its own (a content security policy with their
    hashes). What `scores.json` in the run's folder holds (`fastxai.report.scores`) is shown as a table.

    Args:
        run: the run, as `open_run` gives it.
        out: the file; its folder is made.
        options: how large, which target, which methods are compared.
        progress: called with images done and images in all.

    Raises:
        ArgumentError: for a target, method or size that does not fit the run.
        CannotRun: for a run without images, or a `scores.json` that cannot be read.
    """
    options = options or ReportOptions()
    if not len(run):
        raise CannotRun(f"{run.path} holds no image yet")
    if options.target >= run.config.targets_per_image:
        raise ArgumentError(f"target must be between 0 and {run.config.targets_per_image - 1}, got {options.target}")
    for name in filter(None, (options.compare.first, options.compare.second)):
        run[name]
    scores = read_scores(run)
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    level = _level(run, options)
    tally = Tally(run.methods, options.target)
    with Blocks(path.parent, options.max_size) as thumbnails, Blocks(path.parent, options.max_size) as details:
        template = run.read(0, 1)
        some: list[str] = []
        for number, found, place in _images(run):
            if int(found.status[place]) != Status.OK:
                tally.fail(found.ids[place], found.errors[place])
            else:
                masks = masks_of(found, place, options.target, options.compare)
                if not details.full:
                    details.add(f"image-{len(tally)}", detail(found, place, options.target, masks, level))
                tally.add(found, place, number, masks)
                if found.images is not None:
                    some.append(thumbnail(found.images[place]))
                if len(some) == THUMBNAILS:
                    thumbnails.add(f"thumbnails-{len(thumbnails)}", some)
                    some = []
            if progress is not None:
                progress(number + 1, len(run))
        if some:
            thumbnails.add(f"thumbnails-{len(thumbnails)}", some)
        page = _Page(run, template, tally, options, level, scores)
        return page.write(path, thumbnails, details)


class _Page:
    """Everything about the page but its images."""

    def __init__(
        self, run: Run, template: Found, tally: Tally, options: ReportOptions, level: Level, scores: Any
    ) -> None:
        self.run, self.template, self.tally = run, template, tally
        self.options, self.level = options, level
        self.summary = summarise_run(run, template, tally, options, scores)

    def write(self, path: Path, thumbnails: Blocks, details: Blocks) -> Written:
        """Settle how many images fit, and write the file beside and rename it."""
        images = len(self.tally)
        # with every note that may have to be made, so that it can only turn out smaller
        shell = self._render(self._kept(0, 0, self.options.max_size), [])
        room = self.options.max_size - len(shell.encode()) - _SLACK
        if room < 0:
            needed = size_text(self.options.max_size - room)
            raise ArgumentError(
                f"max_size must be at least {needed} for this run, got {size_text(self.options.max_size)}"
            )
        small = thumbnails.fitting(room)
        whole = details.fitting(room - thumbnails.size(small))
        size = self.options.max_size - room + thumbnails.size(small) + details.size(whole)
        kept = self._kept(whole, min(images, small * THUMBNAILS), size)
        part = path.with_name(f".{path.name}.part")
        try:
            with open(part, "wb") as file:
                for text in self._generate(kept, _chain(thumbnails.read(small), details.read(whole))):
                    file.write(text.encode())
            size = part.stat().st_size
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        return Written(path, size, images, kept.whole, kept.thumbnails, self.level.side)

    def _kept(self, whole: int, thumbnails: int, size: int) -> Kept:
        pixels = self.run.config.pixels
        side = min(self.level.side, max(self.run.config.preprocess.size))
        return Kept(len(self.tally), whole, thumbnails if pixels else 0, pixels, side, size, self.options.max_size)

    def _render(self, kept: Kept, blocks: list[tuple[str, Markup]]) -> str:
        return "".join(self._generate(kept, iter(blocks)))

    def _generate(self, kept: Kept, blocks: Iterator[tuple[str, Markup]]) -> Iterator[str]:
        environment = Environment(
            loader=PackageLoader("fastxai.report", "page"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        style = asset("report.css")
        scripts = [asset(f"{name}.js") for name in SCRIPTS]
        return environment.get_template("report.html.j2").generate(
            style=Markup(style),
            scripts=[Markup(script) for script in scripts],
            policy=policy([style], scripts),
            index=json_text(self._index(kept)),
            blocks=blocks,
            kept=kept,
            **self.summary,
        )

    def _index(self, kept: Kept) -> dict[str, Any]:
        """What the gallery needs of all images, as columns."""
        tally, found = self.tally, self.template
        pair = self.options.compare.pair(found)
        return {
            "ids": tally.ids,
            "numbers": tally.numbers,
            "predicted": tally.predicted,
            "confidence": [None if np.isnan(share) else share for share in tally.confidence],
            "targets": tally.targets,
            "labels": tally.labels if any(label >= 0 for label in tally.labels) else None,
            "names": None if found.class_names is None else list(found.class_names),
            "methods": [
                {
                    "name": name,
                    "label": method_label(name, found[name].explainer.method),
                    "kind": kind(found[name]),
                    "rule": self.options.compare.rule(found[name]),
                }
                for name in found
            ],
            "pairs": tally.pairs,
            "pair": None if pair is None else [tally.methods.index(name) for name in pair],
            "iou": encode.numbers(tally.iou),
            "correlation": encode.numbers(tally.correlation),
            "whole": kept.whole,
            "thumbnails": kept.thumbnails,
            "block": THUMBNAILS,
            "side": list(self.run.config.preprocess.size),
            "colors": {"signed": _table(SIGNED), "positive": _table(POSITIVE)},
            "marks": {"first": FIRST, "second": SECOND, "both": BOTH, "line": LINE},
        }


def asset(name: str) -> str:
    """A file of the page as it is in the package."""
    return resources.files("fastxai.report").joinpath("page", name).read_text(encoding="utf-8")


def policy(styles: list[str], scripts: list[str]) -> str:
    """A content security policy that allows these inline styles and scripts, data pictures, and nothing else."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(map(_hash, scripts))}",
            f"style-src {' '.join(map(_hash, styles))}",
            "img-src data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _table(colors: Any) -> str:
    """256 colours of a matplotlib map as RGB bytes."""
    table = colors(np.linspace(0, 1, 256))[:, :3]
    return encode.text((table * 255 + 0.5).astype(np.uint8).tobytes())


def _chain(*parts: Iterator[tuple[str, Markup]]) -> Iterator[tuple[str, Markup]]:
    for part in parts:
        yield from part


def _images(run: Run) -> Iterator[tuple[int, Found, int]]:
    """(number in the run, results that hold it, place in these), read a little ahead in a thread of its own."""
    height, width = run.config.preprocess.size
    largest = 4 * height * width * run.config.targets_per_image * max(1, len(run.methods))
    step = min(max(1, _AT_ONCE // largest), 16)

    def read() -> Iterator[tuple[int, Found]]:
        for start in range(0, len(run), step):
            yield start, run.read(start, start + step)

    for start, found in ahead(read(), 2):
        for place in range(len(found)):
            yield start + place, found, place


def _level(run: Run, options: ReportOptions) -> Level:
    """The finest level at which all images should fit, judged by some of them; the coarsest where none does."""
    good = (run.status == int(Status.OK)).nonzero().flatten().tolist()
    if not good:
        return LEVELS[-1]
    some = [good[i] for i in sorted({int(i) for i in np.linspace(0, len(good) - 1, min(_SAMPLES, len(good)))})]
    found = [run.read(number, number + 1) for number in some]
    small = np.mean([0 if one.images is None else len(thumbnail(one.images[0])) for one in found]) + _ENTRY
    masks = [masks_of(one, 0, options.target, options.compare) for one in found]
    for level in LEVELS:
        sizes = [
            len(json_text(detail(one, 0, options.target, mask, level))) for one, mask in zip(found, masks, strict=True)
        ]
        if (np.mean(sizes) + small) * len(good) <= _MARGIN * options.max_size - _SHELL:
            return level
    return LEVELS[-1]
