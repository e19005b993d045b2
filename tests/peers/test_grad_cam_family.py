"""The class activation maps against the installed `grad-cam` package on the same layers."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import fastxai as fx
from fastxai.explainers.cam import displayed
from fastxai.models import Model
from fastxai.types import Preprocess

from .conftest import crops

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PAIRS = {
    "gradcam": (fx.GradCam, "GradCAM"),
    "gradcam-plus-plus": (fx.GradCamPlusPlus, "GradCAMPlusPlus"),
    "hirescam": (fx.HiResCam, "HiResCAM"),
    "layercam": (fx.LayerCam, "LayerCAM"),
    "xgradcam": (fx.XGradCam, "XGradCAM"),
    "eigencam": (fx.EigenCam, "EigenCAM"),
    "scorecam": (fx.ScoreCam, "ScoreCAM"),
    "ablationcam": (fx.AblationCam, "AblationCAM"),
}
EARLIER = {"embedded": "blocks.2", "torchvision:resnet50": "layer2", "torchvision:inception_v3": "Mixed_5d"}
SETTINGS = fx.Settings(precision="fp32")


def package_maps(method, module, layers, x, targets):
    """The package's displayed maps [N, H, W] for one target an image."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    kind = getattr(pytorch_grad_cam, PAIRS[method][1])
    module = module.eval()
    with kind(model=module, target_layers=[module.get_submodule(layer) for layer in layers]) as cam:
        maps = cam(input_tensor=x, targets=[ClassifierOutputTarget(int(target)) for target in targets])
    module.zero_grad(set_to_none=True)
    return maps


def as_input(model, pixels):
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (model.preprocess.mean, model.preprocess.std))
    return (pixels / 255 - mean) / std


def pictures(photos, model, count):
    return ((crops(photos, model.preprocess.size, count) + 1) * 127.5).round().to(torch.uint8)


ONE_PASS = ("gradcam-plus-plus", "hirescam", "layercam", "xgradcam")


def test_methods_of_one_pass_agree(classifier, photos):
    pixels = pictures(photos, classifier, 3)
    with classifier.open(SETTINGS) as session:
        layer = session.cam_layer()
    found = fx.explain(classifier, pixels, [PAIRS[m][0]() for m in ONE_PASS], targets="top2", settings=SETTINGS)
    x = as_input(classifier, pixels)
    for method in ONE_PASS:
        for place in range(2):
            theirs = package_maps(method, classifier.module, [layer], x, found.targets[:, place])
            difference = np.abs(found[method].maps[:, place].numpy() - theirs).max()
            print(f"{classifier.name}, {method}, {layer}: worst difference {difference:.1e}")
            assert theirs.max() > 0.99
            # the displayed maps reach 1; they divide by a maximum of float32 sums from calls of another shape
            assert difference < 1e-4


def test_several_layers_agree(classifier, photos):
    pixels = pictures(photos, classifier, 2)
    # Calls of one shape and memory format on both sides: otherwise the last bits of activations differ, and where that
    # flips a ReLU, the gradient of an earlier layer jumps at that position.
    settings = fx.Settings(precision="fp32", rows={"predict": 2})
    x = as_input(classifier, pixels).contiguous(memory_format=torch.channels_last)
    module = copy.deepcopy(classifier.module).to(memory_format=torch.channels_last)
    with classifier.open(settings) as session:
        layers = (next(name for name in EARLIER.values() if has(classifier, name)), session.cam_layer())
    methods = ("gradcam", "layercam")
    found = fx.explain(classifier, pixels, [PAIRS[m][0](layer=layers) for m in methods], settings=settings)
    for method in methods:
        theirs = package_maps(method, module, layers, x, found.targets[:, 0])
        difference = np.abs(found[method].maps[:, 0].numpy() - theirs).max()
        print(f"{classifier.name}, {method}, {layers}: worst difference {difference:.1e}")
        # float32 sums of gradients in another order, over the layers between
        assert difference < 1e-4


def has(model, name):
    return name in dict(model.module.named_modules())


def test_eigencam_agrees_up_to_the_sign_that_lapack_gave(classifier, photos):
    pixels = pictures(photos, classifier, 2)
    with classifier.open(SETTINGS) as session:
        layer = session.cam_layer()
    found = fx.explain(classifier, pixels, fx.EigenCam(), settings=SETTINGS)
    theirs = package_maps("eigencam", classifier.module, [layer], as_input(classifier, pixels), found.targets[:, 0])
    native, size = found["eigencam"].native, classifier.preprocess.size
    for image in range(2):
        signs = [displayed([sign * native[image : image + 1]], size)[0, 0].numpy() for sign in (1, -1)]
        differences = [np.abs(shown - theirs[image]).max() for shown in signs]
        print(f"{classifier.name}, eigencam, {layer}: differences by sign {differences[0]:.1e}, {differences[1]:.1e}")
        assert max(differences) > 0.1
        # float32 activations from calls of another shape; the package's decomposition is in float32
        assert min(differences) < 1e-4


class Block(nn.Module):
    """Two layers behind ReLUs, the second of which its input goes around."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.stem = nn.Sequential(nn.Conv2d(3, 40, 3, stride=2, padding=1), nn.ReLU())
            self.inner = nn.Sequential(nn.Conv2d(40, 40, 3, padding=1), nn.ReLU())
            self.head = nn.Linear(40, 6)

    def forward(self, x):
        x = self.stem(x)
        return self.head((x + self.inner(x)).tanh().mean((2, 3)))


@pytest.mark.parametrize("method", ["scorecam", "ablationcam"])
@pytest.mark.parametrize("layers", [("stem",), ("inner",), ("stem", "inner")], ids="+".join)
def test_methods_with_a_row_a_channel_agree(photos, method, layers):
    model = Model(Block(), Preprocess((32, 40), None, mean=(0.5,) * 3, std=(0.5,) * 3), precision="fp32", device="cpu")
    pixels = pictures(photos, model, 3)
    found = fx.explain(model, pixels, PAIRS[method][0](layer=layers), targets="top2", settings=SETTINGS)
    x = as_input(model, pixels)
    for place in range(2):
        theirs = package_maps(method, model.module, layers, x, found.targets[:, place])
        difference = np.abs(found[method].maps[:, place].numpy() - theirs).max()
        print(f"{method}, {layers}: worst difference {difference:.1e}")
        assert theirs.max() > 0.99
        # drops are differences of float32 scores from calls of another shape: 1e-7 of a score, of drops of a percent
        assert difference < 1e-4


@pytest.mark.parametrize("method", ["scorecam", "ablationcam"])
def test_methods_with_a_row_a_channel_agree_on_a_pretrained_network(photos, method):
    """On the first layer, which has 32 channels."""
    model = fx.load_model("embedded", device="cpu", precision="fp32", compile=False)
    pixels = pictures(photos, model, 2)
    found = fx.explain(model, pixels, PAIRS[method][0](layer="bn1"), settings=SETTINGS)
    theirs = package_maps(method, model.module, ["bn1"], as_input(model, pixels), found.targets[:, 0])
    difference = np.abs(found[method].maps[:, 0].numpy() - theirs).max()
    print(f"{method}, bn1: worst difference {difference:.1e}")
    # as above
    assert difference < 1e-4
