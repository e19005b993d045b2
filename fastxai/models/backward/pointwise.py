"""Activations with limits, and batch norms with fixed statistics.

ReLU6 keeps its result instead of its input: in place, torch copies the input first. A batch norm goes back as what it
is, one factor a channel.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastxai.models.backward.frozen import differentiates_input_only


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """`F.hardtanh`."""
    if not input.requires_grad:
        return F.hardtanh(input, min_val, max_val, inplace)
    output: Tensor = _Clamp.apply(input, min_val, max_val, inplace)
    return output


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """`F.relu6`."""
    return hardtanh(input, 0.0, 6.0, inplace)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`F.batch_norm`."""
    if training or running_mean is None or running_var is None or not differentiates_input_only(input, weight):
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    output: Tensor = _FixedBatchNorm.apply(input, running_mean, running_var, weight, bias, eps)
    return output


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, low: float, high: float, inplace: bool) -> Tensor:
        output = F.hardtanh(input, low, high, inplace)
        if inplace:
            ctx.mark_dirty(input)
        ctx.save_for_backward(output)
        ctx.limits = (low, high)
        return output

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (output,) = ctx.saved_tensors
        # The result lies on a limit where the input was on it or beyond: the same places have no gradient. Mixed
        # memory formats would make this an unvectorised loop.
        layout = torch.channels_last if output.is_contiguous(memory_format=torch.channels_last) else None
        gradient = outputs[0] if layout is None else outputs[0].contiguous(memory_format=layout)
        return torch.ops.aten.hardtanh_backward(gradient, output, *ctx.limits), None, None, None


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
