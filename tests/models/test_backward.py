"""Our backward passes against torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastxai.models.backward import FrozenBackward
from fastxai.models.backward.convolutions import BLOCK
from fastxai.models.backward.frozen import pair


def gradients(call: object, inputs: Tensor) -> tuple[Tensor, Tensor]:
    leaf = inputs.clone().requires_grad_()
    output = call(leaf)  # type: ignore[operator]
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(2)).bfloat16().to(output.dtype)
    (gradient,) = torch.autograd.grad((output * weights).sum(), leaf)
    return output.detach(), gradient


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize(("stride", "padding", "size"), [(2, 1, 11), (2, 0, 12), ((2, 1), (1, 0), 9), (3, 2, 10)])
def test_strided_depthwise_convolutions(kernel: int, stride: int, padding: int, size: int):
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(6, 1, kernel, kernel, generator=generator).bfloat16()
    bias = torch.randn(6, generator=generator).bfloat16()
    inputs = torch.randn(2, 6, size, size, generator=generator).bfloat16()
    call = lambda x: F.conv2d(x, weight, bias, stride, padding, groups=6)  # noqa: E731
    plain = gradients(call, inputs)
    with FrozenBackward():
        ours = gradients(call, inputs)
    exact = gradients(lambda x: F.conv2d(x, weight.float(), bias.float(), stride, padding, groups=6), inputs.float())
    assert torch.equal(ours[0], plain[0]), "forward passes are torch's own"
    # One rounding to bf16 (2^-9) of the same sum made in float32.
    torch.testing.assert_close(ours[1].float(), exact[1], rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norms_with_fixed_statistics(affine: bool):
    generator = torch.Generator().manual_seed(1)
    mean, variance = torch.randn(5, generator=generator), torch.rand(5, generator=generator) + 0.5
    weight = torch.randn(5, generator=generator) if affine else None
    bias = torch.randn(5, generator=generator) if affine else None
    inputs = torch.randn(3, 5, 7, 7, generator=generator)
    call = lambda x: F.batch_norm(x, mean, variance, weight, bias, training=False, eps=1e-3)  # noqa: E731
    plain = gradients(call, inputs)
    with FrozenBackward():
        ours = gradients(call, inputs)
    assert torch.equal(ours[0], plain[0])
    torch.testing.assert_close(ours[1], plain[1], rtol=1e-6, atol=1e-7)  # the factor is rounded in another order


def test_norms_that_learn_or_measure_are_left_to_torch():
    inputs = torch.randn(3, 5, 7, 7, generator=torch.Generator().manual_seed(1))
    weight = torch.ones(5, requires_grad=True)
    with FrozenBackward():
        leaf = inputs.clone().requires_grad_()
        output = F.batch_norm(leaf, torch.zeros(5), torch.ones(5), weight, None, training=False)
        (gradient,) = torch.autograd.grad(output.sum(), weight)
        assert gradient.shape == (5,)
        measured = F.batch_norm(leaf, torch.zeros(5), torch.ones(5), None, None, training=True)
        assert abs(float(measured.detach().mean())) < 1e-5


@pytest.mark.parametrize("channels", [3, 20])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [(7, 2, 3, 14), (3, 2, 1, 11), (1, 2, 0, 9), (1, 3, 0, 8), (4, 4, 0, 12), (5, (2, 1), (2, 0), 10)],
)
def test_strided_convolutions_of_compiled_code(channels: int, kernel: int, stride: int, padding: int, size: int):
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(24, channels, kernel, kernel, generator=generator).bfloat16()
    bias = torch.randn(24, generator=generator).bfloat16()
    inputs = torch.randn(2, channels, size, size, generator=generator).bfloat16()
    call = lambda x: F.conv2d(x, weight, bias, stride, padding)  # noqa: E731
    plain = gradients(call, inputs)
    with FrozenBackward(constant=True):
        ours = gradients(call, inputs)
    exact = gradients(lambda x: F.conv2d(x, weight.float(), bias.float(), stride, padding), inputs.float())
    assert torch.equal(ours[0], plain[0]), "forward passes are torch's own"
    across, down = pair(stride)
    left_to_torch = kernel > 1 and channels * across * down > BLOCK
    if left_to_torch:
        assert torch.equal(ours[1], plain[1])
    if not left_to_torch or torch.backends.cpu.get_cpu_capability() == "AVX512":  # without, torch rounds as it goes
        torch.testing.assert_close(ours[1].float(), exact[1], rtol=2**-8, atol=1e-5)
