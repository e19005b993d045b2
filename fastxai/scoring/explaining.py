"""The measures that have methods explain the pictures again, with other seeds or another model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fastxai.engine import Engine, OnRows
from fastxai.explainers import Explainer
from fastxai.faithfulness import AgainMeasure
from fastxai.faithfulness.base import CURVE, Maps, Values
from fastxai.models import Model, Session
from fastxai.overlap import Asked
from fastxai.scoring.gathered import Gathered, mean_of_known
from fastxai.scoring.reading import maps_of
from fastxai.scoring.subject import Slice, Subject
from fastxai.segments import Segmenter
from fastxai.types import Settings


def explain_again(
    measure: AgainMeasure,
    subject: Subject,
    model: Model,
    settings: Settings,
    explainers: Sequence[Explainer],
    *,
    size: int,
    segmenters: Sequence[Segmenter],
    gathered: Gathered,
    on_rows: OnRows,
    asked: Asked,
) -> None:
    """Add what a measure says about the methods, explainers by explainers, to `gathered`, `size` images at a time."""
    methods = [explainer.name for explainer in explainers]
    taken = subject.settled([explainer for explainer in explainers if measure.takes(explainer)])
    of_models: list[list[dict[str, Values]]] = []  # models, slices
    for other in measure.models(model, subject.seed):
        # Compiled code takes longer to make than it saves here.
        with other.open(replace(settings, compile=())) as session:

            def again(made: Slice, seed: int, session: Session = session) -> dict[str, NDArray[np.float32]]:
                engine = Engine(session, taken, made.targets(), seed, on_rows, asked)
                return _explained(engine, made)

            slices = subject.slices(size, segmenters)
            of_models.append([_compared(measure, made, methods, explainers, again) for made in slices])
    for parts in zip(*of_models, strict=True):
        found = {value.suffix: np.stack([part[value.suffix] for part in parts], -1) for value in measure.values()}
        if len(parts) > 1:
            gathered.add(measure.name, {CURVE: found[measure.values()[0].suffix]})
        gathered.add(measure.name, {suffix: mean_of_known(values, axis=-1) for suffix, values in found.items()})


def _explained(engine: Engine, made: Slice) -> dict[str, NDArray[np.float32]]:
    """The maps of the engine's methods by name, [B, K, H, W]; NaN where the model's answers are not finite."""
    explained = engine.explain(made.images())
    shape = (len(made), made.found.targets.shape[1], *made.found.preprocess.size)
    maps = {}
    for explainer in engine.explainers:
        data = dict(explained.methods[explainer.name])
        failed = np.full(shape, np.nan, dtype=np.float32)
        maps[explainer.name] = made.result(explainer, data).maps.numpy() if data else failed
    return maps


def _compared(
    measure: AgainMeasure,
    made: Slice,
    methods: Sequence[str],
    explainers: Sequence[Explainer],
    again: Callable[[Slice, int], dict[str, NDArray[np.float32]]],
) -> dict[str, Values]:
    """By suffix, the values of a slice with one model: [B, M, K]."""
    there: Maps = maps_of(made, methods, explainers)
    others = [again(made, seed) for seed in measure.seeds(made.found.seed)]
    found = {value.suffix: np.full(there.shape[:3], np.nan) for value in measure.values()}
    for image, method, target in np.ndindex(*there.shape[:3]):
        name = methods[method]
        if not all(name in other for other in others):
            continue  # a method that the measure says nothing about
        maps = [there[image, method, target], *(other[name][image, target] for other in others)]
        if all(np.isfinite(one).all() for one in maps):
            for suffix, value in measure.compare(maps).items():
                found[suffix][image, method, target] = value
    return found
