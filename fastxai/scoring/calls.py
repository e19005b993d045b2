"""`score`: from explanations to the table of their faithfulness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fastxai.config import check_int
from fastxai.engine import Engine
from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.explainers import Explainer, Random
from fastxai.faithfulness import REPORTED, AgainMeasure, Faithfulness, Measure, RowMeasure, as_measures
from fastxai.models import Model, calibrate
from fastxai.overlap import as_asked
from fastxai.results import Found
from fastxai.scoring.explaining import explain_again
from fastxai.scoring.gathered import Gathered, columns_of
from fastxai.scoring.reading import maps_of, read_measures
from fastxai.scoring.subject import Subject, reported
from fastxai.scoring.tally import OnProgress, Tally
from fastxai.store import Run
from fastxai.targets import Targets
from fastxai.types import Settings

DEFAULT = ("deletion", "insertion", "mu-fidelity")
_BUDGET = 1 << 28  # bytes for the maps of the images in work
_MOST = 16  # images in work: their rows fill chunks many times over


def score(
    source: Found | Run,
    model: Model,
    measures: Any = DEFAULT,
    *,
    methods: Sequence[str] | None = None,
    images: Sequence[str] | int | None = None,
    reference: Random | None = None,
    settings: Settings | None = None,
    batch: int | None = None,
    progress: OnProgress | None = None,
    stop: Any = None,
) -> Faithfulness:
    """How faithful maps are to the model: per image, the mean with its interval, and the difference to random maps.

    source: results of `explain`, or a run; both with their pictures. model: the one that was explained (a run knows its
    fingerprint, and the answers to the whole pictures are compared). measures: configurations like `fx.Deletion()` or
    their names. methods: names, None for all. images: ids, or how many from the start; None for all. reference: the
    noise that methods are compared with; None for that among the methods, or else noise in every pixel. settings: as
    recorded; None for those of the run on a device like its own, otherwise calibrated. batch: images in work together,
    which changes no value. stop: looked at before every chunk of rows; `Stopped` comes out where it is true.

    Values depend on the seed of the explanations, the image and the method alone. Images that failed are left out.
    Raises `ArgumentError` before any work starts.
    """
    chosen = as_measures(measures)
    if not chosen:
        raise ArgumentError("measures must hold at least one, got none")
    if batch is not None:
        check_int("batch", batch, 1)
    subject = Subject(source, model, methods, images)
    explainers, reference = _with_reference(subject, reference)
    settled = tuple(measure.settle(subject.preprocess, source.ids) for measure in chosen)
    again = [measure for measure in settled if isinstance(measure, AgainMeasure)]
    for measure in again:
        subject.settled([explainer for explainer in explainers if measure.takes(explainer)])
    kinds = _rows(subject, explainers, settled)
    here = settings or _settings(source, model, kinds)
    segmenters = [s for measure in settled for s in measure.segmenters()] + list(reference.segmenters())
    size = batch or _together(subject, len(explainers))
    tally, asked, gathered = Tally(len(subject.positions), sum(kinds.values()), progress), as_asked(stop), Gathered()
    names, ids = [explainer.name for explainer in explainers], list[str]()
    with model.open(here) as session:
        rule = Targets("rank", 1)  # of the prediction pass, which is not used
        engine = Engine(session, (), rule, subject.seed, tally.rows_done, asked)
        readers = [measure for measure in settled if isinstance(measure, RowMeasure)]
        for made in subject.slices(size, segmenters):
            ids += made.found.ids
            for name, found in read_measures(engine, made, maps_of(made, names, explainers), readers).items():
                gathered.add(name, found)
            gathered.add_values(reported(made.found, names))
    if not ids:
        raise ArgumentError(f"images must hold at least one that can be scored, got {dict(subject.left_out)}")
    for measure in again:
        explain_again(
            measure,
            subject,
            model,
            here,
            explainers,
            size=size,
            segmenters=segmenters,
            gathered=gathered,
            on_rows=tally.rows_done,
            asked=asked,
        )
    columns = columns_of(settled)
    values = gathered.values(list(columns))
    # What no method here says about itself is no column.
    silent = [name for name, _ in REPORTED.values() if np.isnan(values[name]).all()]
    tally.ends()
    return Faithfulness(
        ids=tuple(ids),
        methods=tuple(names),
        reference=reference.name,
        values={name: value for name, value in values.items() if name not in silent},
        columns={name: column for name, column in columns.items() if name not in silent},
        measures=tuple(measure.to_dict() for measure in settled),
        curves=gathered.curves(settled, names),
        left_out=subject.left_out,
        about={"model": {"name": model.name, "fingerprint": model.fingerprint}, "seed": subject.seed},
    )


def _with_reference(subject: Subject, given: Random | None) -> tuple[tuple[Explainer, ...], Random]:
    """All methods, the noise to compare with among them."""
    if given is not None and not isinstance(given, Random):
        raise ArgumentTypeError(f"reference must be a configuration like fx.Random(), got {type(given).__name__}")
    there = [explainer for explainer in subject.explainers if isinstance(explainer, Random)]
    if given is None and there:
        return subject.explainers, there[0]
    reference = given or Random()
    alike = [explainer for explainer in there if explainer.to_dict() == reference.to_dict()]
    if alike:
        return subject.explainers, alike[0]
    if reference.name in subject.methods:
        raise ArgumentError(f"reference must have a name of its own, got {reference.name!r}, a method: set name=")
    settled = reference.settle(subject.preprocess, subject.source.ids)
    return (*subject.explainers, settled), settled


def _rows(subject: Subject, explainers: Sequence[Explainer], measures: Sequence[Measure]) -> dict[str, int]:
    """Rows that all images need, by probe kind."""
    kinds, images = {"predict": 0, "scores": len(subject.positions)}, len(subject.positions)
    for measure in measures:
        if isinstance(measure, RowMeasure):
            kinds["scores"] += images * measure.row_count(len(explainers), subject.targets)
        elif isinstance(measure, AgainMeasure):
            times = images * measure.model_count() * len(measure.seeds(subject.seed))
            kinds["predict"] += times
            for explainer in explainers:
                if measure.takes(explainer):
                    for kind, rows in explainer.row_count(subject.targets).items():
                        kinds[kind] = kinds.get(kind, 0) + times * rows
    return kinds


def _settings(source: Found | Run, model: Model, kinds: dict[str, int]) -> Settings:
    """Those of the run, on this process's own device of that kind; otherwise calibrated."""
    if isinstance(source, Run):
        recorded = source.manifest.settings
        if torch.device(recorded.device).type == model.device.type:
            return replace(recorded, device=str(model.device))
    return calibrate(model, kinds={kind: rows for kind, rows in kinds.items() if kind != "injected"})


def _together(subject: Subject, methods: int) -> int:
    """Images in work together."""
    height, width = subject.preprocess.size
    bytes_each = 16 * methods * subject.targets * height * width  # maps, ranks, and what sorting them takes
    return max(1, min(_MOST, _BUDGET // bytes_each))
