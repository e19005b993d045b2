"""`lime.lime_image` on our engine: `from fastxai.interop.lime import LimeImageExplainer` in place of the package's.

Draws, defaults and results are the package's. `to_lime` goes the other way: results of ours as the package's object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxai.config import check_int
from fastxai.errors import ArgumentError, ArgumentTypeError, CannotRun
from fastxai.interop._kept import KeptModel
from fastxai.interop._lime_explanation import ImageExplanation
from fastxai.interop._lime_fit import Kernel, Surrogate
from fastxai.interop._lime_subject import make_subject
from fastxai.interop._to_lime import to_lime

__all__ = ["ImageExplanation", "LimeImageExplainer", "to_lime"]


class LimeImageExplainer:
    """`lime.lime_image.LimeImageExplainer`. One object keeps its random stream, and its classifier ready, from picture
    to picture.

    kernel: distances, kernel_width -> weights; None for sqrt(exp(-d^2 / kernel_width^2)). feature_selection: "auto",
    "none", "highest_weights", "forward_selection" or "lasso_path"; where it leaves features out, and for a
    `model_regressor`, the fit is made by the package, which must be installed. random_state: a seed, a RandomState,
    or None for numpy's global one.
    """

    def __init__(
        self,
        kernel_width: float = 0.25,
        kernel: Kernel | None = None,
        verbose: bool = False,
        feature_selection: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.surrogate = Surrogate(kernel_width, kernel, feature_selection)
        self.feature_selection, self.verbose = feature_selection, verbose
        self.random_state = _random_state(random_state)
        self._kept: KeptModel | None = None

    def explain_instance(
        self,
        image: NDArray[Any],
        classifier_fn: Any,
        labels: Sequence[int] = (1,),
        hide_color: Any = None,
        top_labels: int | None = 5,
        num_features: int = 100000,
        num_samples: int = 1000,
        batch_size: int = 10,
        segmentation_fn: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
        distance_metric: str = "cosine",
        model_regressor: Any = None,
        random_seed: int | None = None,
    ) -> ImageExplanation:
        """Explain what a classifier says of a picture [H, W, 3] or [H, W].

        classifier_fn: a function, pictures [n, H, W, 3] -> scores [n, classes], called with `batch_size` at a time; or,
        much faster, a `fastxai.Model`, whose probabilities are explained for a uint8 picture as the model sees it (of
        another size it is resized and cropped first); or an `nn.Module` whose raw scores are explained for a float
        picture that is ready model input. For both of these batch_size decides nothing.
        labels: the classes to explain where top_labels is None or 0; else the `top_labels` most probable ones.
        hide_color: what hidden segments show, in the picture's own scale, or None for the mean of each.
        segmentation_fn: picture -> labels [H, W], None for quickshift. Labels may begin anywhere: each one is a feature
        of its own, by its own number. random_seed: given or not decides whether one number is drawn before the samples,
        as in the package, whose segmentation does not use it either.
        """
        check_int("num_samples", num_samples, 2)
        check_int("batch_size", batch_size, 1)
        if self._kept is None or self._kept.given != classifier_fn:
            self._kept = KeptModel(classifier_fn)
        subject = make_subject(image, classifier_fn, self._kept)
        if random_seed is None:
            self.random_state.randint(0, high=1000)
        segments = _segments(subject.image, segmentation_fn)
        names, ranks = np.unique(segments, return_inverse=True)
        data = self.random_state.randint(0, 2, num_samples * len(names)).reshape(num_samples, len(names))
        data[0] = 1
        scores = subject.scores(ranks.reshape(segments.shape), data == 1, hide_color, batch_size)
        explanation = ImageExplanation(subject.image, segments)
        chosen = list(labels)
        if top_labels:
            check_int("top_labels", top_labels, 1)
            chosen = [int(label) for label in np.argsort(scores[0])[-top_labels:][::-1]]
            explanation.top_labels = list(chosen)
        _check_labels(chosen, scores)
        # The package fits classes in ascending order of probability: the object keeps numbers of the last one only.
        order = chosen[::-1] if top_labels else chosen
        fits = self.surrogate.fit(
            data, scores, order, num_features, distance_metric, model_regressor, self.random_state
        )
        for label, fit in zip(order, fits, strict=True):
            explanation.intercept[label] = fit.intercept
            explanation.local_exp[label] = [(int(names[feature]), weight) for feature, weight in fit.pairs]
            explanation.score, explanation.local_pred = fit.score, np.array([fit.local_pred])
            if self.verbose:
                print("Intercept", fit.intercept)
                print("Prediction_local", explanation.local_pred)
                print("Right:", scores[0, label])
        return explanation


def _segments(image: NDArray[Any], segmentation_fn: Callable[[NDArray[Any]], NDArray[Any]] | None) -> NDArray[Any]:
    if segmentation_fn is None:
        from skimage.segmentation import quickshift

        # Of float pictures too, which our own quickshift does not take; its labels are the same for uint8.
        found: NDArray[Any] = quickshift(image, kernel_size=4, max_dist=200, ratio=0.2)
        return found
    given = np.asarray(segmentation_fn(image))
    if given.shape != image.shape[:2] or given.dtype.kind not in "iu":
        raise ArgumentError(
            f"segmentation_fn must give whole numbers of shape {list(image.shape[:2])}, "
            f"got {given.dtype} of shape {list(given.shape)}"
        )
    return given


def _check_labels(labels: Sequence[int], scores: NDArray[Any]) -> None:
    for label in labels:
        check_int("labels", label, 0, scores.shape[1] - 1)
    if not labels:
        raise ArgumentError("labels must hold at least one class where top_labels is None, got none")
    if not np.isfinite(scores[:, list(labels)]).all():
        raise CannotRun("classifier_fn gave scores that are not finite (NaN or Inf): nothing can be fitted to them")


def _random_state(given: int | np.random.RandomState | None) -> np.random.RandomState:
    """As scikit-learn's `check_random_state`."""
    if isinstance(given, np.random.RandomState):
        return given
    if given is None:
        shared: np.random.RandomState = np.random.mtrand._rand  # type: ignore[attr-defined]
        return shared
    if isinstance(given, bool) or not hasattr(given, "__index__"):
        raise ArgumentTypeError(f"random_state must be a seed, a RandomState or None, got {type(given).__name__}")
    return np.random.RandomState(given)
