"""GradientSHAP from picture files to closed shards, against `captum` and `shap`.

Work: 20 samples, black baseline; one class, five, and ten as a sample of all thousand, for which `shap` takes as much
time a class. ResNet-50 with random weights: speed does not depend on them, agreement of its maps says nothing.
"""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("targets", ["top1", "top5", "all:10"])
@pytest.mark.parametrize("model", ["embedded", "torchvision:resnet50"])
def test_gradient_shap(load, measured, model, targets):
    measured(load(model), "gradient-shap", [targets])
