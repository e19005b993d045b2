"""`lime.lime_image.LimeImageExplainer.explain_instance` against ours: superpixels given, five classes, hidden black."""

from __future__ import annotations

import lime.lime_image
import numpy as np
import pytest
import torch

from fastxai.bench.peers.subject import normalized
from fastxai.interop.lime import LimeImageExplainer

SAMPLES = 200


def test_explain_instance(measure, subject):
    def classify(pictures):
        pixels = torch.from_numpy(np.asarray(pictures)).permute(0, 3, 1, 2).to(subject.inputs.device)
        with torch.no_grad():
            return subject.module(normalized(subject.model, pixels)).softmax(1).cpu().numpy()

    ours = LimeImageExplainer(random_state=0)

    def call(explainer, given):
        explainer.random_state.seed(0)
        return explainer.explain_instance(
            subject.picture,
            given,
            top_labels=5,
            hide_color=0,
            num_samples=SAMPLES,
            segmentation_fn=lambda picture: subject.labels,
        )

    theirs = lime.lime_image.LimeImageExplainer(random_state=0)
    found = [call(ours, subject.model), call(theirs, classify)]
    label = found[1].top_labels[0]
    weights = [torch.tensor([w for _, w in sorted(one.local_exp[label])]) for one in found]
    subject.check(*weights)
    work = f"{SAMPLES} samples, 5 classes, {subject.labels.max() + 1} superpixels"
    measure(
        f"lime explain_instance, {subject.form}",
        work,
        lambda: call(ours, subject.model),
        peer=("lime", lambda: call(theirs, classify)),
        limit=("bare reads", subject.bare(SAMPLES)),
        rounds=3,
    )


@pytest.mark.parametrize("subject", ["fp32"], indirect=True)
def test_a_function_as_classifier(measure, subject):
    """No model of ours: only the copies and the fits are done in another way."""

    def classify(pictures):
        return pictures.reshape(len(pictures), -1)[:, :10].astype(np.float64)

    explainers = LimeImageExplainer(random_state=0), lime.lime_image.LimeImageExplainer(random_state=0)

    def call(explainer):
        explainer.random_state.seed(0)
        return explainer.explain_instance(
            subject.picture, classify, num_samples=SAMPLES, segmentation_fn=lambda picture: subject.labels
        )

    mine, theirs = (call(explainer) for explainer in explainers)
    assert set(mine.top_labels) == set(theirs.top_labels)
    copy = subject.picture[None].repeat(10, 0)
    measure(
        "lime explain_instance, a function",
        f"{SAMPLES} samples, a classifier that costs nothing",
        lambda: call(explainers[0]),
        peer=("lime", lambda: call(explainers[1])),
        limit=("copies of the picture", lambda: [copy.copy() for _ in range(SAMPLES // 10)]),
        rounds=3,
    )
