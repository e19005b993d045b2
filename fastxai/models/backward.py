"""Faster backward passes of frozen layers on the CPU, where torch's own were measured to be slow.

Strided depthwise convolutions in bf16 go back through float32: oneDNN has no fast bf16 kernel for them (8 rows of
[96, 113, 113], 3x3, stride 2: 190 ms in bf16, 20 ms in float32, on a CPU with AMX). Batch norms with fixed statistics
go back as what they are, one factor a channel, where torch also prepares the gradients of weights that are frozen.
Together they make EfficientNet-Lite0's input gradient in bf16 many times faster. Forward passes are torch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input
from torch.overrides import TorchFunctionMode


class FrozenBackward(TorchFunctionMode):
    """Inside it `F.conv2d` and `F.batch_norm`, which their modules call, take these backward passes where they fit."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.conv2d:
            return _conv2d(*args, **kwargs)
        if func is F.batch_norm:
            return _batch_norm(*args, **kwargs)
        return func(*args, **kwargs)


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    fits = (
        _differentiates_input_only(input, weight)
        and weight.dtype == torch.bfloat16
        and groups == input.shape[1] > 1
        and max(_pair(stride)) > 1
        and not isinstance(padding, str)
    )
    if not fits:
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    output: Tensor = _StridedDepthwise.apply(
        input.to(torch.bfloat16), weight, bias, _pair(stride), _pair(padding), _pair(dilation)
    )
    return output


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if training or running_mean is None or running_var is None or not _differentiates_input_only(input, weight):
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    output: Tensor = _FixedBatchNorm.apply(input, running_mean, running_var, weight, bias, eps)
    return output


class _StridedDepthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.geometry = input.shape, (stride, padding, dilation)
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups=int(input.shape[1]))

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        stride, padding, dilation = ctx.geometry
        gradient = conv2d_input(
            ctx.shape, weight.float(), outputs[0].float(), stride, padding, dilation, groups=int(ctx.shape[1])
        )
        return gradient.to(torch.bfloat16), None, None, None, None, None


class _FixedBatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, input: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        factor = (variance + eps).rsqrt()
        if weight is not None:
            factor = factor * weight
        # Rounded to the gradient's type, as the convolutions' weights are: a product of mixed types is slow.
        factor = factor.to(input.dtype).reshape(1, -1, *[1] * (input.ndim - 2))
        ctx.save_for_backward(factor)
        return F.batch_norm(input, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = ctx.saved_tensors
        return outputs[0] * factor, None, None, None, None, None


def _differentiates_input_only(input: Tensor, weight: Tensor | None) -> bool:
    return input.requires_grad and input.ndim == 4 and (weight is None or not weight.requires_grad)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    first, *rest = value
    return int(first), int(rest[0] if rest else first)
