"""`pytorch_grad_cam`'s classes against ours: one picture, one class, the last feature layer."""

from __future__ import annotations

import warnings

import pytest
import torch

from fastxai.interop import pytorch_grad_cam as ours


@pytest.mark.timeout(1200)  # Score-CAM of the package takes a minute a call, in each of three turns
@pytest.mark.parametrize("name", ["GradCAM", "GradCAMPlusPlus", "LayerCAM", "ScoreCAM"])
def test_cam(measure, subject, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    # Ablation-CAM is left out: where a layer is not behind a ReLU, the package ablates to numbers below -1e7.
    targets = [ClassifierOutputTarget(281)]
    owner = subject.module if subject.form == "fp32" else subject.model.module
    theirs = getattr(pytorch_grad_cam, name)(subject.module, [subject.module.get_submodule(subject.layer)])
    mine = getattr(ours, name)(subject.given, [owner.get_submodule(subject.layer)])
    rows = subject.channels if name == "ScoreCAM" else 1
    subject.check(*(torch.from_numpy(cam(subject.inputs, targets)) for cam in (mine, theirs)))
    measure(
        f"grad-cam {name}, {subject.form}",
        "1 picture",
        lambda: mine(subject.inputs, targets),
        peer=("grad-cam", lambda: theirs(subject.inputs, targets)),
        limit=("bare forward passes", subject.bare(rows)),
        rounds=1 if rows > 1 else 15,
    )
