"""Agreement of methods, of results in hand or of a run: a slice of images at a time, so that memory stays flat."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, overload

from torch import Tensor

from fastxai.errors import ArgumentError
from fastxai.images import MapFiles
from fastxai.masks import MaskRule
from fastxai.measures import USUAL, Agreement, Agreements, Answers, Comparing, Question, Slice, Superpixels, ask
from fastxai.results import Found, MethodResult
from fastxai.types import Status

SLICE = 64  # images in work at a time


class Readable(Protocol):
    """A run: more images than fit in memory, read a slice at a time."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int, *, methods: Sequence[str] | None = None) -> Found:
        """Images start..stop as results in hand."""


@overload
def agreement(  # two methods of the results
    source: Found | Readable,
    first: str,
    second: str,
    /,
    *,
    measures: str | Sequence[str] = ...,
    top_segments: int = ...,
    top_fraction: float = ...,
    threshold: float | None = ...,
    rules: Mapping[str, MaskRule | str] | None = ...,
    target: int = ...,
    progress: Callable[[int, int], None] | None = ...,
) -> Agreement: ...
@overload
def agreement(
    source: Found | Readable,
    *methods: str,
    measures: str | Sequence[str] = ...,
    top_segments: int = ...,
    top_fraction: float = ...,
    threshold: float | None = ...,
    rules: Mapping[str, MaskRule | str] | None = ...,
    external: Mapping[str, str | os.PathLike[str]] | None = ...,
    target: int = ...,
    progress: Callable[[int, int], None] | None = ...,
) -> Agreement | Agreements: ...
def agreement(
    source: Found | Readable,
    *methods: str,
    measures: str | Sequence[str] = USUAL,
    top_segments: int = 10,
    top_fraction: float = 0.2,
    threshold: float | None = None,
    rules: Mapping[str, MaskRule | str] | None = None,
    external: Mapping[str, str | os.PathLike[str]] | None = None,
    target: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Agreement | Agreements:
    """How much methods say the same: of two an `Agreement`, of more (or, none named, of all) every pair's.

    Per image, with mean, median and bootstrap interval; of results in hand, or of a run a slice at a time. Failed
    images and maps that are not finite do not enter; they are counted in `left_out`.

    measures: some of these, or "all":
      - iou, dice: of the methods' masks;
      - spearman, pearson: of the maps, pixel by pixel, signed as they are;
      - segment_spearman, segment_pearson: of what each superpixel has as a whole: its weight where a method gives one,
        the sum over its pixels elsewhere. The superpixels are those of the first method that has some;
      - top_overlap: share of the `top_segments` superpixels with the largest such sums that both methods name.
    top_segments, top_fraction: methods on superpixels are made binary by their most positive segments, at most so
      many, the others by their top share of pixels; threshold: instead of the latter, by the pixels that reach that
      share of their map's maximum. rules: by method, another one of these rules (`MaskRule`, or "threshold=0.5").
    external: names and places of maps that another tool made, a folder or a file (see `fastxai.images.MapFiles`).
    target: which of the K explained classes. progress: called with images done and images in all.
    """
    if not len(source):
        raise ArgumentError("agreement must be asked for at least one image, got none")
    look = source if isinstance(source, Found) else source.read(0, 1)
    others = {name: MapFiles(name, path) for name, path in (external or {}).items()}
    question = ask(
        tuple(look),
        tuple(name for name in look if look[name].on_segments),
        methods,
        tuple(others),
        measures=measures,
        top_segments=top_segments,
        top_fraction=top_fraction,
        threshold=threshold,
        rules=rules,
        target=target,
        targets=look.targets.shape[1],
    )
    comparing = Comparing(question, look.class_names)
    done = 0
    for found in _slices(source, question.reads):
        good = (found.status == int(Status.OK)).nonzero().flatten()
        comparing.leave_out(len(found) - len(good))
        for rows in good.split(SLICE):
            comparing.add(_answered(found, rows, question, others))
        done += len(found)
        if progress is not None:
            progress(done, len(source))
    for maps in others.values():
        maps.require_any(look.ids[0])
    return comparing.result()


def _slices(source: Found | Readable, methods: Sequence[str]) -> Iterator[Found]:
    if isinstance(source, Found):
        yield source
        return
    for start in range(0, len(source), SLICE):
        yield source.read(start, min(start + SLICE, len(source)), methods=methods)


def _answered(found: Found, rows: Tensor, question: Question, others: Mapping[str, MapFiles]) -> Slice:
    """What the methods of a question say about the images at these rows."""
    ids = [found.ids[place] for place in rows.tolist()]
    answers = {}
    for name in question.names:
        if name in others:
            maps, missing = others[name].read(ids, found.preprocess.size)
            answers[name] = Answers(name, maps, missing=missing)
        else:
            result = found[name].target(question.target)
            weights = result.weights[rows, 0] if result.on_segments else None
            answers[name] = Answers(name, result.maps[rows, 0], weights, _superpixels(result, rows))
    common = _superpixels(found[question.common], rows) if question.common else None
    predicted = found.predictions[rows, 0].long()
    return Slice(ids, found.labels[rows], predicted, answers, common)


def _superpixels(result: MethodResult, rows: Tensor) -> Superpixels | None:
    if result.segments is None:
        return None
    labels = result.segments[rows]
    counts = labels.flatten(1).amax(1).long() + 1 if result.counts is None else result.counts[rows]
    return Superpixels(labels, counts)
