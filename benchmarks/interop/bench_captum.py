"""Captum's classes against ours with the same arguments, at Captum's own defaults and as people set them."""

from __future__ import annotations

import copy

import captum.attr
import numpy as np
import pytest
import torch

from fastxai.interop import captum as ours


@pytest.mark.parametrize("name", ["Lime", "KernelShap"])
@pytest.mark.parametrize(("samples", "together"), [(25, 1), (200, 8)])
def test_segments(measure, subject, name, samples, together):
    options = {"target": 281, "feature_mask": subject.mask, "n_samples": samples, "perturbations_per_eval": together}
    methods = [getattr(captum.attr, name)(subject.module), getattr(ours, name)(subject.given)]

    def call(method):
        torch.manual_seed(0)
        return method.attribute(subject.inputs, **options)

    subject.check(call(methods[1]), call(methods[0]))
    measure(
        f"captum {name}, {subject.form}",
        f"{samples} samples, {together} a call, {subject.labels.max() + 1} superpixels",
        lambda: call(methods[1]),
        peer=("captum", lambda: call(methods[0])),
        limit=("bare reads", subject.bare(samples)),
        rounds=5,
    )


@pytest.mark.parametrize("samples", [5, 20])
def test_gradient_shap(measure, subject, samples):
    methods = [captum.attr.GradientShap(subject.module), ours.GradientShap(subject.given)]

    def call(method, inputs=subject.inputs):
        np.random.seed(0)
        return method.attribute(inputs, torch.zeros_like(inputs), n_samples=samples, target=281).detach()

    # Gradients sum up many roundings: on some CPUs captum in float32 is itself further than 1e-3 from float64.
    exact = captum.attr.GradientShap(copy.deepcopy(subject.module).double())
    subject.check(call(methods[1]).sum(1), call(exact, subject.inputs.double()).sum(1))
    measure(
        f"captum GradientShap, {subject.form}",
        f"{samples} samples",
        lambda: call(methods[1]),
        peer=("captum", lambda: call(methods[0])),
        limit=("bare reads of gradients", subject.bare(samples, gradients=True)),
        rounds=5,
    )


def test_layer_grad_cam(measure, subject):
    owner = subject.module if subject.form == "fp32" else subject.model.module
    methods = [
        captum.attr.LayerGradCam(subject.module, subject.module.get_submodule(subject.layer)),
        ours.LayerGradCam(subject.given, owner.get_submodule(subject.layer)),
    ]

    def call(method):
        return method.attribute(subject.inputs, target=281).detach()

    subject.check(call(methods[1]), call(methods[0]))
    measure(
        f"captum LayerGradCam, {subject.form}",
        "1 picture",
        lambda: call(methods[1]),
        peer=("captum", lambda: call(methods[0])),
        limit=("a bare forward pass", subject.bare(1)),
        rounds=15,
    )
