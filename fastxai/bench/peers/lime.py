"""The `lime` package."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastxai.bench.peers.subject import Answer, Explain, Subject
from fastxai.explainers import Lime
from fastxai.segments import Quickshift, Segmenter

BATCH = 10  # its default


def prepare(subject: Subject) -> Explain:
    """`LimeImageExplainer.explain_instance` on uint8 pictures, probabilities from the float32 model."""
    from lime.lime_image import LimeImageExplainer

    config = subject.explainer
    assert isinstance(config, Lime)
    explainer = LimeImageExplainer(kernel_width=config.kernel_width, random_state=subject.seed, verbose=False)
    hide: Any = {"black": 0, "mean": None}[config.fill] if isinstance(config.fill, str) else config.fill

    def classify(pictures: Any) -> NDArray[np.float32]:
        pixels = torch.from_numpy(np.asarray(pictures)).permute(0, 3, 1, 2)
        with torch.no_grad():
            logits = subject.module(subject.inputs(pixels))
            scores: NDArray[np.float32] = subject.model.probabilities(logits).cpu().numpy()
        return scores

    def explain(index: int) -> Answer:
        picture = subject.pixels[index].permute(1, 2, 0).contiguous().numpy()
        found = explainer.explain_instance(
            picture,
            classify,
            top_labels=subject.classes,
            hide_color=hide,
            num_samples=config.samples,
            batch_size=BATCH,
            segmentation_fn=_segmentation(config.segments, index),
        )
        return {int(label): _weights(pairs) for label, pairs in found.local_exp.items()}

    return explain


def _segmentation(segments: Segmenter, index: int) -> Any:
    """scikit-image's quickshift as the package wraps it; other segmenters are ours, with labels from 0."""
    from lime.wrappers.scikit_image import SegmentationAlgorithm

    if isinstance(segments, Quickshift):
        return SegmentationAlgorithm(
            "quickshift", kernel_size=segments.kernel_size, max_dist=segments.max_dist, ratio=segments.ratio
        )
    return lambda picture: np.unique(segments.label(picture, str(index)), return_inverse=True)[1].reshape(
        picture.shape[:2]
    )


def _weights(pairs: list[tuple[int, float]]) -> NDArray[np.float64]:
    weights = np.zeros(1 + max(segment for segment, _ in pairs))
    for segment, weight in pairs:
        weights[segment] = weight
    return weights
