"""What `LimeImageExplainer.explain_instance` gives: attributes and method are those of the `lime` package's object."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxai.errors import ArgumentError


class ImageExplanation:
    """LIME's explanations of one picture, for the classes that were asked for.

    image [H, W, C]: the picture that was perturbed; segments [H, W]. By class: local_exp, (segment, weight) by
    descending |weight|, and intercept. As in the package, score (weighted R^2) and local_pred ([1], the surrogate at
    the whole picture) are those of the class that was fitted last. top_labels: classes by probability, best first.
    """

    def __init__(self, image: NDArray[Any], segments: NDArray[Any]) -> None:
        self.image, self.segments = image, segments
        self.top_labels: list[int] | None = None
        self.intercept: dict[int, float] = {}
        self.local_exp: dict[int, list[tuple[int, float]]] = {}
        self.score: float | None = None
        self.local_pred: NDArray[np.float64] | None = None

    def get_image_and_mask(
        self,
        label: int,
        positive_only: bool = True,
        negative_only: bool = False,
        hide_rest: bool = False,
        num_features: int = 5,
        min_weight: float = 0.0,
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """A picture [H, W, C] and a mask [H, W] that is 1 on the `num_features` strongest segments, 0 elsewhere.

        positive_only, negative_only: segments that speak for, or against, the class alone, above min_weight. With
        neither, the strongest of both signs are coloured (green for, red against), and the mask is -1 where they are
        against. hide_rest: the rest of the picture is 0.
        """
        if label not in self.local_exp:
            raise KeyError(f"label must be one of {list(self.local_exp)}, got {label}")
        if positive_only and negative_only:
            raise ArgumentError("positive_only and negative_only must not both be True, got True and True")
        found, both = self.local_exp[label], not (positive_only or negative_only)
        if both:
            found = [(segment, weight) for segment, weight in found[:num_features] if abs(weight) >= min_weight]
        else:
            sign = 1 if positive_only else -1
            found = [(s, w) for s, w in found if sign * w > 0 and sign * w > min_weight][:num_features]
        mask = np.zeros(self.segments.shape, self.segments.dtype)
        shown = np.zeros(self.image.shape) if hide_rest else self.image.copy()
        for segment, weight in found:
            inside = self.segments == segment
            shown[inside] = self.image[inside]
            mask[inside] = -1 if both and weight < 0 else 1
            if both:
                shown[inside, 0 if weight < 0 else 1] = np.max(self.image)
        return shown, mask
