"""Folding: the same scores with fewer layers, and nothing folded that another part of the model can see."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from fastxai.models import InputGradients, Scores
from fastxai.models.folding import fold_batch_norms
from fastxai.models.runner import waves
from fastxai.types import Settings


def norm(channels: int) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(channels)
    generator = torch.Generator().manual_seed(channels)
    made.running_mean = torch.randn(channels, generator=generator)
    made.running_var = torch.rand(channels, generator=generator) + 0.2
    made.weight.data = torch.randn(channels, generator=generator)
    made.bias.data = torch.randn(channels, generator=generator)
    return made


class Steps(nn.Module):
    """conv -> norm -> something; `middle` is called with (module, x)."""

    def __init__(self, middle: Callable[[Any, Tensor], Tensor], bias: bool = False, groups: int = 1) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 8, 3, bias=bias, groups=groups), norm(8)
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        return self.middle(self, x).mean((2, 3))


def folded(module: nn.Module) -> tuple[nn.Module, int, Tensor, Tensor]:
    private = copy.deepcopy(module).eval().requires_grad_(False)
    inputs = waves((2, 4, 9, 9))
    before = private(inputs)
    count = len(fold_batch_norms(private, lambda: private(inputs)))
    return private, count, before, private(inputs)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 4])
def test_a_convolution_takes_in_the_norm_behind_it(bias: bool, groups: int):
    module, count, before, after = folded(Steps(lambda m, x: m.norm(m.conv(x)).relu(), bias, groups))
    assert count == 1
    assert isinstance(module.norm, nn.Identity)
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)  # float32, one more rounding of each weight


@pytest.mark.parametrize(
    "middle",
    [
        lambda m, x: m.norm(m.conv(x)) + m.conv(x),  # runs twice
        lambda m, x: (y := m.conv(x)) + m.norm(y),  # read by two
        lambda m, x: m.norm(m.norm(m.conv(x))),  # the norm runs twice
        lambda m, x: m.norm(m.conv(x).relu()),  # something between
        lambda m, x: m.norm(torch.nn.functional.conv2d(x, 2 * m.conv.weight)),  # not the weight that is kept
        lambda m, x: m.norm(m.conv(x)) * m.conv.weight.sum(),  # the weight is read elsewhere
    ],
    ids=["twice", "two readers", "norm twice", "between", "made weight", "read weight"],
)
def test_what_others_can_see_is_left_alone(middle: Callable[[Any, Tensor], Tensor]):
    module, count, before, after = folded(Steps(middle))
    assert count == 0
    assert isinstance(module.norm, nn.BatchNorm2d)
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_modules_with_hooks_are_left_alone():
    module = Steps(lambda m, x: m.norm(m.conv(x)))
    module.conv.register_forward_hook(lambda part, arguments, output: 2 * output)
    _, count, before, after = folded(module)
    assert count == 0
    assert torch.equal(before, after)


def test_a_norm_that_does_more_than_its_kind_is_put_back():
    class Squared(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) ** 2

    module = Steps(lambda m, x: m.norm(m.conv(x)))
    strange = Squared(8)
    strange.load_state_dict(module.norm.state_dict())
    module.norm = strange
    private, count, before, after = folded(module)
    assert count == 0
    assert private.norm is not strange and isinstance(private.norm, Squared)
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_all_of_a_resnet_and_of_a_timm_network_that_tracing_cannot_read():
    import timm

    for made in (torchvision.models.resnet18(), timm.create_model("tf_efficientnet_lite0")):
        norms = sum(isinstance(part, nn.BatchNorm2d) for part in made.modules())
        made.eval().requires_grad_(False)
        inputs = waves((2, 3, 64, 64))
        before = made(inputs)
        assert len(fold_batch_norms(made, lambda made=made, inputs=inputs: made(inputs))) == norms > 10
        assert not any(isinstance(part, nn.BatchNorm2d) for part in made.modules())
        span = float(before.max() - before.min())
        assert float((made(inputs) - before).abs().max()) < 1e-5 * span


def test_a_folded_session_gives_what_an_unfolded_one_does(net: type[nn.Module], wrap: Any, rows: Tensor):
    model = wrap(net())
    targets = torch.tensor([[0, 3]]).expand(len(rows), 2)
    with model.open(Settings()) as plain, model.open(Settings(fold=True)) as session:
        assert (plain.folded, session.folded) == (0, 1)
        for probe in (Scores("logit"), InputGradients()):
            ours, theirs = session.read(probe, rows, targets), plain.read(probe, rows, targets)
            torch.testing.assert_close(ours.scores, theirs.scores, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours.gradients, theirs.gradients, rtol=1e-4, atol=1e-6)
        assert session.cam_layer() == plain.cam_layer()
    assert isinstance(model.module.norm, nn.BatchNorm2d)
    assert not isinstance(model.module.norm, nn.Identity)


@pytest.mark.parametrize("layer", ["conv", "norm", "relu", "last"])
def test_recordings_are_those_of_the_module_as_it_was(net: type[nn.Module], wrap: Any, rows: Tensor, layer: str):
    targets = torch.zeros(len(rows), 1, dtype=torch.int64)
    model = wrap(net())
    with model.open(Settings()) as plain, model.open(Settings(fold=True)) as session:
        theirs = plain.predict(rows, (layer,)).recordings(targets)[layer]
        ours = session.predict(rows, (session.check_layer(layer),)).recordings(targets)[layer]
        torch.testing.assert_close(ours.activation, theirs.activation, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours.gradients, theirs.gradients, rtol=1e-4, atol=1e-7)
        assert session.folded == (0 if layer == "conv" else 1)  # a recorded convolution keeps its own output
