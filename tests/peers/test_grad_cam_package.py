"""Grad-CAM against the installed `grad-cam` package on the same layer."""

import numpy as np
import pytest
import torch

import fastxai as fx


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_agrees_with_the_package(classifier, photos):
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    from .conftest import crops

    pixels = ((crops(photos, classifier.preprocess.size, 4) + 1) * 127.5).round().to(torch.uint8)
    settings = fx.Settings(precision="fp32")
    found = fx.explain(classifier, pixels, fx.GradCam(), targets="top2", settings=settings)
    with classifier.open(settings) as session:
        layer = session.cam_layer()
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (classifier.preprocess.mean, classifier.preprocess.std))
    x = (pixels / 255 - mean) / std
    module = classifier.module.eval()
    worst = 0.0
    for place in range(2):
        targets = [ClassifierOutputTarget(int(target)) for target in found.targets[:, place]]
        with GradCAM(model=module, target_layers=[module.get_submodule(layer)]) as cam:
            theirs = cam(input_tensor=x, targets=targets)
        difference = np.abs(found["gradcam"].maps[:, place].numpy() - theirs).max()
        worst = max(worst, float(difference))
        assert theirs.max() > 0.99
        # the displayed maps reach 1; they divide by a maximum of float32 sums from calls of another shape
        assert difference < 1e-4
    module.zero_grad(set_to_none=True)
    print(f"\n{classifier.name}, layer {layer}: worst difference {worst:.1e}")
