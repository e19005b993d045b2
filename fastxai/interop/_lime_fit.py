"""The surrogates of `LimeImageExplainer`: ours where every segment is kept, the package's where features are chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastxai import sampling, solve
from fastxai.config import check_choice, check_float, check_int
from fastxai.errors import ArgumentTypeError, MissingExtra

SELECTIONS = ("auto", "none", "highest_weights", "forward_selection", "lasso_path")
Kernel = Callable[..., NDArray[np.float64]]


@dataclass(frozen=True)
class Fit:
    """The surrogate of one class: (feature, weight) pairs by descending |weight|, and the package's other numbers."""

    pairs: list[tuple[int, float]]
    intercept: float
    score: float
    local_pred: float


@dataclass(frozen=True)
class Surrogate:
    """How surrogates are fitted, checked when it is made; options as of the `lime` package."""

    kernel_width: float
    kernel: Kernel | None
    feature_selection: str

    def __post_init__(self) -> None:
        check_float("kernel_width", float(self.kernel_width), 0, above=True)
        check_choice("feature_selection", self.feature_selection, SELECTIONS)
        if self.kernel is not None and not callable(self.kernel):
            raise ArgumentTypeError(f"kernel must be a function of distances, got {type(self.kernel).__name__}")

    def fit(
        self,
        data: NDArray[np.integer[Any]],
        scores: NDArray[np.floating[Any]],
        labels: Sequence[int],
        num_features: int,
        distance_metric: str,
        model_regressor: Any,
        random_state: np.random.RandomState,
    ) -> list[Fit]:
        """A fit for each of `labels`: data [n, S] of 0 and 1, row 0 all 1; scores [n, classes]."""
        check_int("num_features", num_features, 1)
        distances = _distances(data, distance_metric)
        keeps_all = self.feature_selection == "none" or (
            self.feature_selection != "lasso_path" and num_features >= data.shape[1]
        )
        if model_regressor is None and keeps_all:
            return _ridges(data, self._weights(distances), scores[:, list(labels)])
        try:
            from lime.lime_base import LimeBase
        except ImportError as error:
            raise MissingExtra("LimeImageExplainer with chosen features or a model_regressor", "interop") from error
        base = LimeBase(self._weights, False, random_state=random_state)
        found = []
        for label in labels:
            intercept, pairs, score, local = base.explain_instance_with_data(
                data, scores, distances, label, num_features, self.feature_selection, model_regressor
            )
            found.append(Fit([(int(f), float(w)) for f, w in pairs], float(intercept), float(score), float(local[0])))
        return found

    def _weights(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.kernel is not None:
            return partial(self.kernel, kernel_width=float(self.kernel_width))(distances)
        return np.sqrt(np.exp(-(distances**2) / float(self.kernel_width) ** 2))


def _distances(data: NDArray[np.integer[Any]], metric: str) -> NDArray[np.float64]:
    """Of every row from row 0, which keeps all."""
    if metric == "cosine":
        found: NDArray[np.float64] = 1 - np.sqrt(data.sum(1) / data.shape[1])
        return found
    try:
        from sklearn.metrics import pairwise_distances
    except ImportError as error:
        raise MissingExtra(f"distance_metric={metric!r}", "interop") from error
    other: NDArray[np.float64] = pairwise_distances(data, data[:1], metric=metric).ravel()
    return other


def _ridges(data: NDArray[np.integer[Any]], weights: NDArray[np.float64], scores: NDArray[Any]) -> list[Fit]:
    """Ridge with alpha 1 on all features, for all classes at once; scores [n, K]."""
    fit = solve.weighted_ridge(
        sampling.pack(torch.from_numpy(data == 1))[None],
        torch.from_numpy(np.asarray(weights, np.float64))[None],
        torch.from_numpy(np.asarray(scores, np.float64))[None],
        torch.tensor([data.shape[1]]),
        alpha=1.0,
    )
    found = []
    for place, coefficients in enumerate(fit.weights[0].double().numpy()):
        order = np.argsort(-np.abs(coefficients), kind="stable")
        pairs = [(int(feature), float(coefficients[feature])) for feature in order]
        intercept, score, local = (float(part[0, place]) for part in (fit.intercept, fit.score, fit.local_pred))
        found.append(Fit(pairs, intercept, score, local))
    return found
