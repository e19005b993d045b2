"""Results as the `lime` package's own objects."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastxai.errors import ArgumentError, MissingExtra
from fastxai.results import Found
from fastxai.types import Status


def to_lime(found: Found, index: int, name: str = "lime") -> Any:
    """Image `index` as a `lime.lime_image.ImageExplanation`, for code that calls `get_image_and_mask` and `local_exp`.

    `score` and `local_pred` are dictionaries by class, like `intercept`: the package keeps only those of the class it
    fitted last.
    """
    try:
        from lime.lime_image import ImageExplanation
    except ImportError as error:
        raise MissingExtra("to_lime", "interop") from error
    result = found[name]
    if result.segments is None or "weights" not in result.data:
        raise ArgumentError(f"name must be a method on superpixels, got {name!r}")
    if found.images is None:
        raise ArgumentError("found must hold the pictures: this run was made without them")
    if int(found.status[index]) != Status.OK:
        raise ArgumentError(f"index must be an image that was explained, got {found.ids[index]!r}")
    explanation = ImageExplanation(
        found.images[index].permute(1, 2, 0).contiguous().numpy(), result.segments[index].numpy().astype(np.int64)
    )
    explanation.top_labels = found.targets[index].tolist()
    explanation.score, explanation.local_pred = {}, {}
    count = int(result.segments[index].max()) + 1
    for place, label in enumerate(explanation.top_labels):
        weights = result.weights[index, place, :count].double().numpy()
        order = np.argsort(-np.abs(weights), kind="stable")
        explanation.local_exp[label] = [(int(segment), float(weights[segment])) for segment in order]
        explanation.intercept[label] = float(result.intercept[index, place])
        explanation.score[label] = float(result.score[index, place])
        explanation.local_pred[label] = float(result.local_pred[index, place])
    return explanation
