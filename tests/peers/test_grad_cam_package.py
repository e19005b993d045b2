"""Grad-CAM against the installed `grad-cam` package on the same layer."""

import copy

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


def tokens_after(prefix):
    """The package's `reshape_transform` for a square grid of tokens: [B, T, D] -> [B, D, h, w]."""

    def reshape(output):
        side = round((output.shape[1] - prefix) ** 0.5)
        return output[:, prefix:].reshape(len(output), side, side, -1).permute(0, 3, 1, 2)

    return reshape


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "reshape"),
    [
        ("vit", tokens_after(1)),
        ("timm vit", tokens_after(1)),
        ("timm deit distilled", tokens_after(2)),
        ("timm swin", lambda output: output.permute(0, 3, 1, 2)),
        ("swin", None),
    ],
)
def test_agrees_with_the_package_on_transformers(photos, name, reshape):
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    from tests.models.table import TABLE

    from .conftest import crops

    (entry,) = [entry for entry in TABLE if entry.name == name]
    pixels = ((crops(photos, (entry.side, entry.side), 4) + 1) * 127.5).round().to(torch.uint8)
    found = fx.explain(entry.model(), pixels, fx.GradCam(), targets="top2", settings=fx.Settings())
    module = copy.deepcopy(entry.module)
    for place in range(2):
        targets = [ClassifierOutputTarget(int(target)) for target in found.targets[:, place]]
        layers = [module.get_submodule(entry.layer)]
        with GradCAM(model=module, target_layers=layers, reshape_transform=reshape) as cam:
            theirs = cam(input_tensor=pixels / 255 * 2 - 1, targets=targets)
        assert theirs.max() > 0.99
        # the displayed maps reach 1; they divide by a maximum of float32 sums in another order
        assert np.abs(found["gradcam"].maps[:, place].numpy() - theirs).max() < 1e-4
