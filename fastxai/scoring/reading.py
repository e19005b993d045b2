"""The measures that read the model on changed pictures, all of a slice in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastxai.engine import Engine
from fastxai.errors import ArgumentError
from fastxai.explainers import Batch, Block, Explainer, Random
from fastxai.explainers.base import AtOnce
from fastxai.faithfulness import RowMeasure
from fastxai.faithfulness.base import CURVE, Maps, Values
from fastxai.models import Reading, Scores
from fastxai.scoring.subject import Slice
from fastxai.transfer import on_device

_ALIKE = 0.1  # that probabilities of one model may differ by in two precisions; two models differ by more, somewhere


def read_measures(
    engine: Engine, made: Slice, maps: Maps, measures: Sequence[RowMeasure]
) -> dict[str, dict[str, Values]]:
    """By measure and suffix, values [B, M, K] (and curves [B, M, K, S]) for the maps [B, M, K, H, W] of a slice.

    Maps that are not finite have NaN.
    """
    finite = np.asarray(np.isfinite(maps).all(axis=(3, 4)))
    sound = np.where(finite[..., None, None], maps, np.float32(0.0))
    batch, found = made.batch(engine.session), {}
    _check_answers(engine, made, batch)
    for measure in measures:
        task = measure.begin(batch, sound)
        engine.drive(measure.name, task, batch.targets)
        results = {suffix: value.cpu().numpy() for suffix, value in task.finish().items()}
        if CURVE in results:
            results[CURVE] = np.where(finite[..., None], results[CURVE], np.nan)
        found[measure.name] = results | {
            suffix: np.where(finite, value, np.nan) for suffix, value in results.items() if suffix != CURVE
        }
    return found


def maps_of(made: Slice, methods: Sequence[str], explainers: Sequence[Explainer]) -> Maps:
    """The maps of methods, float32 [B, M, K, H, W]; of those that are not among the results, noise drawn here."""
    parts = []
    for name, explainer in zip(methods, explainers, strict=True):
        if name in made.found.methods:
            parts.append(made.found[name].maps.numpy())
        else:
            assert isinstance(explainer, Random)
            parts.append(noise(made, explainer).numpy())
    return np.stack(parts, axis=1)


def noise(made: Slice, explainer: Random) -> Tensor:
    """Random maps for a slice, drawn on the CPU: they ask no model."""
    found = made.found
    assert found.images is not None
    batch = Batch(
        pixels=found.images,
        inputs=found.images.float(),
        digests=list(found.digests),
        targets=found.targets,
        logits=torch.zeros(len(found), 0),
        segments=made.segments,
        recordings=(),
        preprocess=found.preprocess,
        seed=found.seed,
        dtype=torch.float32,
    )
    return made.result(explainer, dict(explainer.begin(batch).finish())).maps


class _WholeTask(AtOnce):
    """The probability of the best class of every picture as it is: float32 [B]."""

    def __init__(self, batch: Batch, classes: Tensor) -> None:
        self.batch, self.classes = batch, classes
        self.scores = torch.full((len(batch),), float("nan"))

    def all_rows(self) -> Block:
        image = torch.arange(len(self.batch))
        return Block(image, torch.zeros_like(image), Scores("probability"), self.classes.unsqueeze(1))

    def inputs(self, block: Block) -> Tensor:
        return self.batch.inputs[on_device(block.image, self.batch.inputs.device)].to(self.batch.dtype)

    def fold(self, block: Block, reading: Reading) -> None:
        self.scores[block.image] = reading.scores[:, 0].cpu()

    def finish(self) -> Mapping[str, Tensor]:
        return {"": self.scores}


def _check_answers(engine: Engine, made: Slice, batch: Batch) -> None:
    """Refuse a model that answers to the pictures otherwise than the one that was explained."""
    found = made.found
    task = _WholeTask(batch, found.predictions[:, 0].long())
    engine.drive("whole pictures", task, batch.targets)
    known, here = found.probabilities[:, 0].double().numpy(), task.scores.double().numpy()
    apart: NDArray[np.float64] = np.abs(known - here) / np.maximum(1.0, np.abs(known))
    if not (apart <= _ALIKE).all():
        image = int(np.nan_to_num(apart, nan=np.inf).argmax())
        raise ArgumentError(
            f"model must be the one that explained the pictures as they are kept, got {here[image]:.3f} for "
            f"{found.class_name(int(found.predictions[image, 0]))} in {found.ids[image]!r}, which had "
            f"{known[image]:.3f} (ready model input cannot be scored: only a rendition of it is kept)"
        )
