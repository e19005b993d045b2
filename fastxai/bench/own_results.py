"""What fastxai itself finds on the pictures that are compared, and how steady that is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastxai.bench.agreement import answers, compare
from fastxai.bench.cases import Case
from fastxai.bench.limit import reference
from fastxai.bench.peers import Answer
from fastxai.models import Model
from fastxai.pipeline import explain
from fastxai.results import Found
from fastxai.segments import Quickshift
from fastxai.types import Settings

Labels = NDArray[np.integer[Any]]


def own_results(
    model: Model, case: Case, settings: Settings, files: list[str], pixels: Tensor, seed: int
) -> tuple[list[Answer], list[Labels], dict[str, Any]]:
    """Answers in the run's settings, label maps [H, W] to compare maps at, and the record's `agreement` of a case.

    files: the pictures; pixels uint8 [N, C, H, W]: the same as the model sees them. Labels are the method's own
    superpixels, or quickshift's where it has none.
    """
    name, method = case.explainer.name, case.explainer.method

    def results(of: Settings, with_seed: int) -> Found:
        return explain(
            model, files, case.explainer, targets=case.targets, seed=with_seed, settings=of, batch=len(files)
        )

    found = results(settings, seed)
    ours, segments = answers(found, name), found[name].segments
    labels: list[Labels]
    if segments is not None:
        labels = [part.numpy() for part in segments]
    else:
        pictures = [picture.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy() for picture in pixels]
        labels = [Quickshift().label(picture, file) for picture, file in zip(pictures, files, strict=True)]

    def agreement(other: Found) -> dict[str, Any]:
        return compare(ours, answers(other, name), labels, method).to_dict()

    exact = reference(settings)
    same = exact == settings
    return (
        ours,
        labels,
        {
            "fp32": None if same else agreement(results(exact, seed)),
            "seed": None if case.samples is None else agreement(results(settings, seed + 1)),
        },
    )
