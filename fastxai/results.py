"""Explanations in hand: what `explain` returns, and what a run reader gives for any slice of a run.

Everything is a CPU torch tensor with the images on the first axis; failed images have rows too.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastxai import masks
from fastxai.errors import ArgumentError
from fastxai.measures.table import align, printable
from fastxai.types import ExplainedBatch, Preprocess, Settings, Status

if TYPE_CHECKING:
    from fastxai.explainers import Explainer


PRINTED = 20  # images that `print` lists


@dataclass(frozen=True, repr=False)
class MethodResult:
    """One method's results: the fields of its explainer as attributes (`maps` [N, K, H, W] and more).

    segments int32 [N, H, W] and counts int64 [N], where the method works on superpixels. With more than 32 targets,
    maps that can be rebuilt are not kept: they are made when they are asked for, those of one by `target(k).maps`.
    """

    explainer: Explainer
    data: Mapping[str, Tensor]
    segments: Tensor | None = None
    counts: Tensor | None = None
    size: tuple[int, int] | None = None  # H, W of maps

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_") or name not in self.data:
            if any(field.name == name and field.optional for field in self.explainer.fields()) and self.size:
                return self._rebuilt(name, self.size)
            raise AttributeError(f"{self.explainer.name!r} has no {name!r}: it has {', '.join(self.data)}")
        return self.data[name]

    def __len__(self) -> int:
        return int(next(iter(self.data.values())).shape[0])

    def __getitem__(self, index: int | slice) -> MethodResult:
        """One image (its axis is gone) or a slice of images."""
        data = {name: value[index] for name, value in self.data.items()}
        segments = None if self.segments is None else self.segments[index]
        return replace(self, data=data, segments=segments, counts=None if self.counts is None else self.counts[index])

    def target(self, index: int) -> MethodResult:
        """The results for one of the K targets, which keeps its axis: [N, 1, ...]."""
        dims = {field.name: field.dims for field in self.explainer.fields()}
        data = {}
        for name, value in self.data.items():
            axis = value.dim() - len(dims[name])
            data[name] = value.narrow(axis, index, 1) if "target" in dims[name] else value
        return replace(self, data=data)

    def _rebuilt(self, name: str, size: tuple[int, int]) -> Tensor:
        """A field that was not kept."""
        dims = {field.name: field.dims for field in self.explainer.fields()}
        single = all(value.dim() == len(dims[kept]) for kept, value in self.data.items())
        data = {kept: value.unsqueeze(0) if single else value for kept, value in self.data.items()}
        labels = self.segments.unsqueeze(0) if single and self.segments is not None else self.segments
        found = self.explainer.rebuild(name, data, labels, size)
        return found.squeeze(0) if single else found

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in self.data.items())
        return f"<{self.explainer.name}: {shapes}>"

    @property
    def on_segments(self) -> bool:
        """Whether the method gives weights to superpixels."""
        return self.segments is not None and "weights" in self.data

    def mask(
        self, *, top_segments: int | None = None, top_fraction: float | None = None, threshold: float | None = None
    ) -> Tensor:
        """The map made binary, bool [N, K, H, W] (or [K, H, W] for one image), by one of three rules.

        top_segments: the segments with the largest positive weight, at most that many (fewer where fewer are
        positive). top_fraction: exactly that share of pixels by rank, ties by raster order. threshold: the pixels that
        reach that share of their map's largest value.
        """
        if sum(rule is not None for rule in (top_segments, top_fraction, threshold)) != 1:
            raise ArgumentError("mask must be given top_segments, top_fraction or threshold, one of them")
        if top_fraction is not None:
            return masks.top_fraction(self.maps, top_fraction)
        if threshold is not None:
            return masks.at_least(self.maps, threshold)
        if not self.on_segments:
            raise ArgumentError(f"top_segments must be used with a method on superpixels, got {self.explainer.name!r}")
        assert top_segments is not None and self.segments is not None
        return masks.top_segments(self.weights, self.segments, top_segments)


@dataclass(frozen=True)
class Timing:
    """Seconds and rows that one method took, set-up and calibration aside."""

    seconds: float
    rows: int


@dataclass(frozen=True)
class RunSummary:
    """What one call of `run` did: images explained and failed, images found done, and where the seconds went.

    seconds: wall time from the first picture to the last closed shard; calibration_seconds came before it. rows: rows
    a chunk by probe kind at the end, fewer than in `settings` where memory ran out. batch: images in work together.
    """

    images: int
    failed: int
    skipped: int
    seconds: float
    calibration_seconds: float
    timings: Mapping[str, Timing]
    settings: Settings
    rows: Mapping[str, int] = field(default_factory=dict)
    batch: int = 0

    @property
    def halved(self) -> dict[str, int]:
        """Rows a chunk of the probe kinds that ran out of memory."""
        return {kind: rows for kind, rows in self.rows.items() if rows < self.settings.rows.get(kind, rows)}


@dataclass(frozen=True, repr=False)
class Found:
    """Explanations of N images. `found["lime"]` is one method's `MethodResult`.

    images uint8 [N, C, H, W]; predictions int32 [N, 5] (-1 beyond the model's classes); probabilities float32 [N, 5];
    targets int64 [N, K]; status uint8 [N] (`fastxai.types.Status`); errors: reasons, "" where fine; sizes int32
    [N, 2] original H, W; crops float32 [N, 4] left, top, right, bottom in the original; labels int64 [N], -1 without.
    """

    ids: tuple[str, ...]
    digests: tuple[str, ...]
    status: Tensor
    errors: tuple[str, ...]
    sizes: Tensor
    crops: Tensor
    labels: Tensor
    images: Tensor | None
    predictions: Tensor
    probabilities: Tensor
    targets: Tensor
    methods: Mapping[str, MethodResult]
    preprocess: Preprocess
    seed: int
    class_names: tuple[str, ...] | None = None
    timings: Mapping[str, Timing] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, name: str) -> MethodResult:
        if name not in self.methods:
            raise ArgumentError(f"method must be one of {', '.join(self.methods) or '(none)'}, got {name!r}")
        return self.methods[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.methods)

    def __repr__(self) -> str:
        failed = len(self.failures)
        return f"<Found: {len(self)} images ({failed} failed), methods {', '.join(self.methods)}>"

    def __str__(self) -> str:
        head, body, note = self._overview()
        return "\n\n".join(filter(None, [repr(self), align(head, body), note]))

    def __rich__(self) -> Any:
        """The table of `print`, for a terminal that rich writes to; rich asks for it."""
        from rich.table import Table
        from rich.text import Text

        head, body, note = self._overview()
        table = Table(title=Text(repr(self)), caption=Text(note), title_justify="left", caption_justify="left")
        for column in head:
            table.add_column(column, justify="right" if column in ("probability", "class") else "left")
        for row in body:
            table.add_row(*(Text(printable(cell)) for cell in row))  # never read as markup
        return table

    def _repr_html_(self) -> str:
        """The table and the first panels, for notebooks."""
        # drawing stands above results and loads matplotlib: it is looked up when it is asked for
        html: str = importlib.import_module("fastxai.report.notebook").found_html(self)
        return html

    def _overview(self) -> tuple[list[str], list[list[str]], str]:
        """Head and rows of the table that shows the first images, and a line below it."""
        body = []
        for place in range(min(len(self), PRINTED)):
            best, share = int(self.predictions[place, 0]), float(self.probabilities[place, 0])
            if self.status[place]:
                body.append([self.ids[place], "", "", printable(f"failed: {self.errors[place]}")])
            else:
                body.append([self.ids[place], f"{share:.3f}", str(best), printable(self.class_name(best))])
        more = len(self) - len(body)
        return ["image", "probability", "class", "prediction"], body, f"and {more} more" if more else ""

    @property
    def failures(self) -> dict[str, str]:
        """Ids of the failed images and their reasons."""
        return {i: e for i, s, e in zip(self.ids, self.status.tolist(), self.errors, strict=True) if s != Status.OK}

    def class_name(self, index: int) -> str:
        """The name of a class, or its number where the model has no names."""
        named = self.class_names is not None and 0 <= index < len(self.class_names)
        return self.class_names[index] if named and self.class_names is not None else str(index)


def collect(
    batches: Sequence[ExplainedBatch],
    explainers: Sequence[Explainer],
    *,
    preprocess: Preprocess,
    seed: int,
    class_names: tuple[str, ...] | None,
    timings: Mapping[str, Timing] | None = None,
) -> Found:
    """Join batches into one `Found`; ragged segment axes are padded with NaN to the longest."""
    if not batches:
        raise ArgumentError("images must hold at least one image, got none")
    images = [batch.images for batch in batches]
    methods = {}
    for explainer in explainers:
        joined = _join_methods([batch.methods[explainer.name] for batch in batches], [len(image) for image in images])
        data = {f.name: joined[f.name] for f in explainer.fields() if f.name in joined}
        methods[explainer.name] = MethodResult(explainer, data, size=preprocess.size)
        for segmenter in explainer.segmenters()[:1]:
            parts = [image.segments[segmenter.key] for image in images]
            labels, counts = torch.cat([part.labels for part in parts]), torch.cat([part.counts for part in parts])
            methods[explainer.name] = MethodResult(explainer, data, labels, counts, preprocess.size)
    return Found(
        ids=tuple(i for image in images for i in image.ids),
        digests=tuple(d for image in images for d in image.digests),
        status=torch.tensor([int(s) for image in images for s in image.status], dtype=torch.uint8),
        errors=tuple(e for image in images for e in image.errors),
        sizes=torch.cat([image.sizes for image in images]),
        crops=torch.cat([image.crops for image in images]),
        labels=torch.cat([image.labels for image in images]),
        images=torch.cat([image.pixels for image in images]),
        predictions=torch.cat([batch.classes for batch in batches]),
        probabilities=torch.cat([batch.probabilities for batch in batches]),
        targets=torch.cat([batch.targets for batch in batches]),
        methods=methods,
        preprocess=preprocess,
        seed=seed,
        class_names=class_names,
        timings=dict(timings or {}),
    )


def _join_methods(parts: Sequence[Mapping[str, Tensor]], lengths: Sequence[int]) -> dict[str, Tensor]:
    """Join the fields of one method. A batch without a readable picture has none: its rows are empty."""
    templates = {name: value for part in parts for name, value in part.items()}
    return {
        name: _join(
            [
                part[name] if name in part else _empty(template, length)
                for part, length in zip(parts, lengths, strict=True)
            ]
        )
        for name, template in templates.items()
    }


def _empty(template: Tensor, length: int) -> Tensor:
    value = float("nan") if template.is_floating_point() else -1
    return template.new_full((length, *template.shape[1:]), value)


def _join(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate along images; the last axis may be ragged (segments) and is padded with NaN."""
    if parts[0].dim() == 1:
        return torch.cat(list(parts))
    width = max(part.shape[-1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[-1]), value=float("nan")) for part in parts])
