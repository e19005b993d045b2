"""What is scored: the pictures, targets and maps of results in hand or of a run, a slice at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastxai import ops
from fastxai.config import check_int
from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.explainers import Batch, Explainer
from fastxai.faithfulness.base import REPORTED
from fastxai.models import Model, Session
from fastxai.results import Found, MethodResult
from fastxai.segments import Segmenter, segment_batch
from fastxai.store import Run
from fastxai.targets import Targets
from fastxai.threads import feeders
from fastxai.types import ImageBatch, Segments, Status


@dataclass(frozen=True)
class Slice:
    """Some images, all of them explained: their results, and the segments that anything here needs by their key."""

    found: Found
    segments: dict[str, Segments]

    def __len__(self) -> int:
        return len(self.found)

    def images(self) -> ImageBatch:
        """A new batch of them, for the engine."""
        found = self.found
        return ImageBatch(
            ids=list(found.ids),
            digests=list(found.digests),
            status=[Status.OK] * len(found),
            errors=[""] * len(found),
            sizes=found.sizes,
            crops=found.crops,
            labels=found.labels,
            pixels=_pictures(found),
            segments=dict(self.segments),
        )

    def targets(self) -> Targets:
        """The classes that were explained, as a rule."""
        rows = {image: row for row, image in enumerate(self.found.ids)}
        return Targets("fixed", int(self.found.targets.shape[1]), self.found.targets, rows)

    def batch(self, session: Session) -> Batch:
        """What tasks look at, on the device of the model."""
        device, preprocess = session.device, session.model.preprocess
        pixels = _pictures(self.found).to(device)
        return Batch(
            pixels=pixels,
            inputs=ops.normalize(pixels, preprocess.mean, preprocess.std),
            digests=list(self.found.digests),
            targets=self.found.targets.to(device),
            logits=torch.zeros(len(self), 0, device=device),
            segments={
                key: Segments(each.labels.to(device), each.counts.to(device)) for key, each in self.segments.items()
            },
            recordings=(),
            preprocess=preprocess,
            seed=self.found.seed,
            dtype=session.dtype,
        )

    def result(self, explainer: Explainer, data: dict[str, Tensor]) -> MethodResult:
        """Results that were made of these pictures just now."""
        labels = counts = None
        for segmenter in explainer.segmenters()[:1]:
            labels, counts = self.segments[segmenter.key].labels, self.segments[segmenter.key].counts
        return MethodResult(explainer, data, labels, counts, self.found.preprocess.size)


class Subject:
    """The images to score, and why others are not: `left_out`, id -> reason."""

    def __init__(
        self,
        source: Found | Run,
        model: Model,
        methods: Sequence[str] | None,
        images: Sequence[str] | int | None,
    ) -> None:
        if not isinstance(source, (Found, Run)):
            raise ArgumentTypeError(f"source must be results of explain or a run, got {type(source).__name__}")
        self.source = source
        if not len(source):
            raise ArgumentError("source must hold at least one image, got none")
        _check_model(source, model)
        every = tuple(source)
        self.methods = every if methods is None else tuple(dict.fromkeys(methods))
        for name in self.methods:
            source[name]  # refuses one that is not there
        if not self.methods:
            raise ArgumentError("methods must name at least one, got none")
        ids, status = source.ids, source.status.tolist()
        self.preprocess = model.preprocess
        self.seed = source.config.seed if isinstance(source, Run) else source.seed
        self.explainers: tuple[Explainer, ...] = tuple(source[name].explainer for name in self.methods)
        self.targets = int(source.targets.shape[1])
        reasons = source.failures
        self.positions, self.left_out = list[int](), dict[str, str]()
        for position in _positions(source, images):
            if status[position] == Status.OK:
                self.positions.append(position)
            else:
                self.left_out[ids[position]] = reasons[ids[position]]
        if not self.positions:
            raise ArgumentError("images must hold at least one that was explained, got none")

    def settled(self, explainers: Sequence[Explainer]) -> tuple[Explainer, ...]:
        """Explainers ready to explain the images again; `ArgumentError` for one that lacks what a run does not keep."""
        return tuple(explainer.settle(self.preprocess, self.source.ids) for explainer in explainers)

    def slices(self, size: int, segmenters: Sequence[Segmenter]) -> Iterator[Slice]:
        """The images, `size` at a time, with the segments of `segmenters` and of the methods.

        One that cannot be segmented joins those that are left out.
        """
        with ThreadPoolExecutor(feeders(), "fastxai-segments") as pool:
            for start in range(0, len(self.positions), size):
                found = self._found(self.positions[start : start + size])
                segments = {}
                for name, explainer in zip(self.methods, self.explainers, strict=True):
                    result = found[name]
                    if result.segments is not None and result.counts is not None:
                        counts = result.counts.clamp_min(1)
                        segments[explainer.segmenters()[0].key] = Segments(result.segments, counts)
                made = Slice(found, segments)
                missing = [segmenter for segmenter in segmenters if segmenter.key not in segments]
                if missing:
                    made = self._segmented(made, missing, pool)
                if len(made):
                    yield made

    def _segmented(self, made: Slice, missing: Sequence[Segmenter], pool: ThreadPoolExecutor) -> Slice:
        images = made.images()
        segment_batch(images, missing, pool)
        good = [place for place, status in enumerate(images.status) if status is Status.OK]
        if len(good) == len(made):
            return replace(made, segments=images.segments)
        self.left_out |= {i: error for i, error in zip(images.ids, images.errors, strict=True) if error}
        segments = {key: Segments(each.labels[good], each.counts[good]) for key, each in images.segments.items()}
        return Slice(take(made.found, good, self.methods), segments)

    def _found(self, positions: Sequence[int]) -> Found:
        if isinstance(self.source, Run):
            return self.source.found([self.source.ids[position] for position in positions], methods=self.methods)
        return take(self.source, positions, self.methods)


def take(found: Found, positions: Sequence[int], methods: Sequence[str]) -> Found:
    """Some images of results in hand."""
    index = torch.tensor(positions, dtype=torch.int64)

    def part(result: MethodResult) -> MethodResult:
        data = {name: value[index] for name, value in result.data.items()}
        segments, counts = (None if each is None else each[index] for each in (result.segments, result.counts))
        return replace(result, data=data, segments=segments, counts=counts)

    tensors = ("status", "sizes", "crops", "labels", "images", "predictions", "probabilities", "targets")
    return replace(
        found,
        ids=tuple(found.ids[i] for i in positions),
        digests=tuple(found.digests[i] for i in positions),
        errors=tuple(found.errors[i] for i in positions),
        methods={name: part(found[name]) for name in methods},
        **{name: getattr(found, name)[index] for name in tensors},
    )


def reported(found: Found, methods: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """What methods say about themselves, by the name of the value: float64 [N, M], NaN where one says nothing."""
    values = {}
    for field, (name, _) in REPORTED.items():
        columns = np.full((len(found), len(methods)), np.nan)
        for place, method in enumerate(methods):
            data = found[method].data if method in found.methods else {}
            if field in data:
                columns[:, place] = (
                    data[field].double().abs().mean(1) if name == "gap" else data[field].double().mean(1)
                )
        values[name] = columns
    return values


def _pictures(found: Found) -> Tensor:
    assert found.images is not None  # `_check_model` has seen them
    return found.images


def _check_model(source: Found | Run, model: Model) -> None:
    """Refuse a model that is not the one that was explained, and results without their pictures."""
    if not isinstance(model, Model):
        raise ArgumentTypeError(f"model must be a fastxai Model (see load_model), got {type(model).__name__}")
    kept = source.config.pixels if isinstance(source, Run) else source.images is not None
    if not kept:
        raise ArgumentError("source must hold the pictures, got a run that was made without them (--no-pixels)")
    if isinstance(source, Run):
        known = source.config.model
        if known["fingerprint"] != model.fingerprint:
            raise ArgumentError(
                f"model must be that of the run, {known.get('name', '?')!r} with fingerprint "
                f"{known['fingerprint']}, got {model.name!r} with {model.fingerprint}"
            )
    elif source.preprocess != model.preprocess:
        raise ArgumentError(
            f"model must be the one that explained the images, got {model.name!r}, which prepares pictures otherwise"
        )


def _positions(source: Found | Run, images: Sequence[str] | int | None) -> list[int]:
    """Where the images to score are: all, the first so many, or those of some ids."""
    if images is None:
        return list(range(len(source)))
    if isinstance(images, str):
        images = [images]
    if not isinstance(images, Sequence):
        return list(range(min(check_int("images", images, 1), len(source))))
    if isinstance(source, Run):
        return source.positions(list(dict.fromkeys(images)))
    places = {image: position for position, image in enumerate(source.ids)}
    for image in images:
        if image not in places:
            raise ArgumentError(f"images must be ids of the results, got {image!r}")
    return [places[image] for image in dict.fromkeys(images)]
