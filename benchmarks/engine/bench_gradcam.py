"""Grad-CAM from picture files to closed shards, and of pictures in memory, against `grad-cam`.

Work: 32 pictures, one class. The limit is a forward pass and the way back to the recorded layer. In memory there is no
decoding and no writer, whose compression caps the pipeline.
"""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("model", ["embedded", "torchvision:resnet50"])
def test_gradcam(load, measured, model):
    measured(load(model), "gradcam", images=32)
