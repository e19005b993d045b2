"""Padding: convolution modules that pad by themselves become plain ones with the same results."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastxai.models.padding import take_in_padding
from fastxai.models.runner import waves


class Padded(nn.Conv2d):
    """Pads (left, right, top, bottom) before it convolves."""

    sides: tuple[int, ...] = (0, 1, 0, 1)
    mode, value = "constant", 0.0

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, self.sides, self.mode, self.value)
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Net(nn.Module):
    def __init__(self, sides: tuple[int, ...], **options: Any) -> None:
        super().__init__()
        self.conv = Padded(6, 12, **{"kernel_size": 3, "stride": 2, "groups": 6, **options})
        self.conv.sides = sides

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).square().mean((2, 3))


def taken_in(module: nn.Module, wider: bool = True) -> tuple[nn.Module, int]:
    """The changed copy, after its scores were compared with the module's."""
    inputs = waves((2, 6, 11, 12))
    private = copy.deepcopy(module).eval().requires_grad_(False)
    count = take_in_padding(private, lambda: private(inputs), wider=wider)
    torch.testing.assert_close(private(inputs), module(inputs), rtol=1e-5, atol=1e-6)  # float32, other kernel shapes
    return private, count


@pytest.mark.parametrize(
    ("sides", "options", "kernel", "padding"),
    [
        ((0, 1, 0, 1), {}, (4, 4), (1, 1)),
        ((1, 2, 1, 2), {"kernel_size": 5}, (6, 6), (2, 2)),
        ((1, 0, 0, 1), {}, (4, 4), (1, 1)),
        ((0, 3, 1, 1), {"kernel_size": (3, 4), "stride": (1, 2)}, (3, 7), (1, 3)),
        ((1, 1, 2, 2), {}, (3, 3), (2, 1)),
        ((0, 2, 0, 2), {"dilation": 2}, (4, 4), (2, 2)),
        ((1, 1, 1, 1), {"groups": 1, "bias": False}, (3, 3), (1, 1)),
    ],
)
def test_padding_becomes_the_convolution_s(sides: Any, options: Any, kernel: Any, padding: Any):
    module, count = taken_in(Net(sides, **options))
    assert count == 1
    assert type(module.conv) is nn.Conv2d
    assert (module.conv.kernel_size, module.conv.padding) == (kernel, padding)


@pytest.mark.parametrize(
    ("sides", "options"),
    [
        ((0, 1, 0, 1), {"groups": 1}),  # zeros in a dense kernel cost more than they save
        ((0, 1, 0, 1), {"dilation": 2}),  # no whole tap fits in
        ((1, -1, 0, 0), {}),  # a crop
        ((0, 1, 0, 1), {"padding_mode": "reflect"}),
    ],
)
def test_what_is_no_plain_padding_stays(sides: Any, options: Any):
    assert taken_in(Net(sides, **options))[1] == 0


def test_only_padding_with_zeros_is_taken_in():
    for mode, value in (("constant", 1.0), ("reflect", 0.0), ("replicate", 0.0)):
        net = Net((0, 1, 0, 1))
        net.conv.mode, net.conv.value = mode, value
        assert taken_in(net)[1] == 0


def test_kernels_grow_only_where_they_may():
    assert taken_in(Net((0, 1, 0, 1)), wider=False)[1] == 0
    assert taken_in(Net((1, 1, 1, 1)), wider=False)[1] == 1


def test_a_module_that_does_more_than_pad_stays():
    class More(Padded):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x + 1)

    class After(Padded):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).relu()

    for kind in (More, After):
        net = Net((0, 1, 0, 1))
        net.conv.__class__ = kind
        assert taken_in(net)[1] == 0


def test_a_model_of_plain_convolutions_is_not_even_run():
    def forward() -> Tensor:
        raise AssertionError("there is nothing to find")

    assert take_in_padding(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()), forward, wider=True) == 0


def test_a_module_that_runs_twice_or_has_hooks_stays():
    class Twice(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).mean((2, 3)) + self.conv(x[:, :, 2:]).mean((2, 3))

    assert taken_in(Twice((0, 1, 0, 1)))[1] == 0
    hooked = Net((0, 1, 0, 1))
    hooked.conv.register_forward_hook(lambda part, arguments, output: None)
    assert taken_in(hooked)[1] == 0


def test_all_of_efficientnet_lite_s_padding_goes():
    timm = pytest.importorskip("timm")
    module = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval().requires_grad_(False)
    inputs = waves((2, 3, 64, 64))
    before = module(inputs)
    assert take_in_padding(module, lambda: module(inputs), wider=True) == 5  # stem and four strided depthwise ones
    assert not [part for part in module.modules() if type(part).__name__ == "Conv2dSame"]
    torch.testing.assert_close(module(inputs), before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))
