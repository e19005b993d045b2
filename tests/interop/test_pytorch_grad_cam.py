"""Code for pytorch_grad_cam with its import line changed: the same calls on the package's classes and on ours."""

import inspect

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget, ClassifierOutputTarget
from torch import nn

from fastxai.errors import ArgumentError, ArgumentTypeError, CannotRun
from fastxai.interop import pytorch_grad_cam as ours

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
# the displayed maps reach 1; they divide by a maximum of float32 sums from calls of another shape
CLOSE = 1e-4
NAMES = ["GradCAM", "GradCAMPlusPlus", "HiResCAM", "LayerCAM", "XGradCAM", "ScoreCAM", "AblationCAM"]


def maps(package, name, net, layers, inputs, targets, **options):
    kind = getattr(package, name)
    with kind(model=net, target_layers=[net.get_submodule(layer) for layer in layers]) as cam:
        return cam(input_tensor=inputs, targets=targets, **options), cam.outputs


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layers", [["act2"], ["act", "act2"]], ids=["one layer", "two layers"])
def test_agrees_with_the_package(name, layers, net, inputs):
    for targets in ([ClassifierOutputTarget(c) for c in (1, 4, 0)], None):
        mine, outputs = maps(ours, name, net, layers, inputs, targets)
        theirs, their_outputs = maps(pytorch_grad_cam, name, net, layers, inputs, targets)
        assert isinstance(mine, np.ndarray) and mine.dtype == np.float32
        assert mine.shape == theirs.shape == (3, 24, 24)
        assert theirs.max() > 0.9
        assert np.abs(mine - theirs).max() < CLOSE
        # float32 scores of a folded copy
        assert torch.allclose(outputs, their_outputs, atol=1e-4)


def test_eigen_cam_agrees_up_to_its_sign(net, inputs):
    mine, _ = maps(ours, "EigenCAM", net, ["act2"], inputs, None)
    theirs, _ = maps(pytorch_grad_cam, "EigenCAM", net, ["act2"], inputs, None)
    agree = [float(np.abs(a - b).max()) for a, b in zip(mine, theirs, strict=True)]
    # Of a map with the other sign only what was 0 is shown: where it agrees it does to rounding.
    for image, found in enumerate(agree):
        assert found < CLOSE or float((mine[image] * theirs[image]).max()) < 0.5


@pytest.mark.parametrize("name", ["GradCAM", "LayerCAM"])
def test_augmentation_agrees(name, net, inputs):
    for targets in ([ClassifierOutputTarget(c) for c in (1, 4, 0)], None):
        mine, outputs = maps(ours, name, net, ["act2"], inputs, targets, aug_smooth=True)
        theirs, _ = maps(pytorch_grad_cam, name, net, ["act2"], inputs, targets, aug_smooth=True)
        assert mine.shape == theirs.shape and outputs.shape == (3, 6)
        assert np.abs(mine - theirs).max() < CLOSE


@pytest.mark.parametrize("name", [*NAMES, "EigenCAM"])
def test_signatures_are_the_packages(name):
    for method in ("__init__", "__call__"):
        mine, theirs = (
            [p.name for p in inspect.signature(getattr(getattr(package, name), method)).parameters.values()]
            for package in (ours, pytorch_grad_cam)
        )
        assert mine == theirs


class Tokens(nn.Module):
    """Patches, one token before them, a mixing layer, and a mean for the scores."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.patches = nn.Conv2d(3, 10, 4, stride=4)
            self.first = nn.Parameter(torch.randn(1, 1, 10))
            self.block = nn.TransformerEncoderLayer(10, 2, 20, batch_first=True)
            self.norm = nn.LayerNorm(10)
            self.head = nn.Linear(10, 6)
        self.eval()

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(len(x), -1, -1), tokens], dim=1)
        return self.head(self.norm(self.block(tokens)).mean(1))


def grid(output):
    return output[:, 1:].reshape(len(output), 6, 6, -1).permute(0, 3, 1, 2)


def test_tokens_agree_with_and_without_a_transform(inputs):
    net = Tokens()
    targets = [ClassifierOutputTarget(c) for c in (1, 4, 0)]
    theirs = pytorch_grad_cam.GradCAM(net, [net.norm], reshape_transform=grid)(inputs, targets)
    for transform in (grid, None):
        mine = ours.GradCAM(net, [net.norm], reshape_transform=transform)(inputs, targets)
        assert np.abs(mine - theirs).max() < CLOSE


@pytest.mark.parametrize(
    ("transform", "match"),
    [
        (lambda output: grid(output).flip(-1), "got another order"),
        (lambda output: output.reshape(1, 3, 3, 4), "reshape_transform must take outputs"),
    ],
    ids=["another order", "another size"],
)
def test_a_transform_that_says_something_else_is_refused(transform, match, inputs):
    net = Tokens()
    with pytest.raises(ArgumentError, match=match):
        ours.GradCAM(net, [net.norm], reshape_transform=transform)(inputs)


def test_a_fastxai_model_and_our_target_may_be_given(net, classifier, inputs):
    mine = ours.GradCAM(classifier, [net.act2])(inputs, [ours.ClassifierOutputTarget(1)] * 3)
    theirs, _ = maps(pytorch_grad_cam, "GradCAM", net, ["act2"], inputs, [ClassifierOutputTarget(1)] * 3)
    assert np.abs(mine - theirs).max() < CLOSE


def test_the_module_is_left_alone(net, inputs):
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    ours.GradCAM(net, [net.act2])(inputs)
    assert net.training and not any(part._forward_hooks for part in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_what_cannot_be_done_is_refused(net, inputs):
    cam = ours.GradCAM(net, [net.act2])
    with pytest.raises(ArgumentTypeError, match="targets must be ClassifierOutputTarget each"):
        cam(inputs, [ClassifierOutputSoftmaxTarget(1)] * 3)
    with pytest.raises(ArgumentError, match="one for each of 3 inputs"):
        cam(inputs, [ClassifierOutputTarget(1)])
    with pytest.raises(ArgumentError, match="targets must be between 0 and 5"):
        cam(inputs, [ClassifierOutputTarget(6)] * 3)
    with pytest.raises(ArgumentError, match="eigen_smooth must be False"):
        cam(inputs, eigen_smooth=True)
    with pytest.raises(ArgumentError, match="target_layers must hold at least one"):
        ours.GradCAM(net, [])
    with pytest.raises(ArgumentError, match="ratio_channels_to_ablate must be 1.0"):
        ours.AblationCAM(net, [net.act2], ratio_channels_to_ablate=0.5)
    with pytest.raises(ArgumentError, match="ablation_layer must be None"):
        ours.AblationCAM(net, [net.act2], ablation_layer=nn.Identity())
    with pytest.raises(CannotRun, match="input 1 cannot be explained"):
        cam(inputs.index_fill(0, torch.tensor([1]), float("nan")))
