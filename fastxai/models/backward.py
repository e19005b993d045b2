"""Faster backward passes of frozen layers on the CPU, where torch's own were measured to be slow.

Strided depthwise convolutions go back as plain ones, for which oneDNN has its fast forward code: the pixels that the
same taps reach (every second one, with stride 2) get their gradient from a convolution with those taps, turned. ReLU6
keeps its result instead of its input: in place, torch copies the input first. Batch norms with fixed statistics go
back as what they are, one factor a channel, where torch also prepares the gradients of weights that are frozen.
Forward passes are torch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class FrozenBackward(TorchFunctionMode):
    """Inside it `F.conv2d`, `F.batch_norm`, `F.hardtanh` and `F.relu6`, which their modules call, go back this way."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.conv2d:
            return _conv2d(*args, **kwargs)
        if func is F.batch_norm:
            return _batch_norm(*args, **kwargs)
        if func is F.hardtanh:
            return _hardtanh(*args, **kwargs)
        if func is F.relu6:
            return _relu6(*args, **kwargs)
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
        and weight.dtype in (torch.bfloat16, torch.float32)
        and groups == input.shape[1] == weight.shape[0] > 1
        and max(_pair(stride)) > 1
        and _pair(dilation) == (1, 1)
        and not isinstance(padding, str)
    )
    if not fits:
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    output: Tensor = _StridedDepthwise.apply(input.to(weight.dtype), weight, bias, _pair(stride), _pair(padding))
    return output


def _hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    if not input.requires_grad:
        return F.hardtanh(input, min_val, max_val, inplace)
    output: Tensor = _Clamp.apply(input, min_val, max_val, inplace)
    return output


def _relu6(input: Tensor, inplace: bool = False) -> Tensor:
    return _hardtanh(input, 0.0, 6.0, inplace)


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
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.stride, ctx.padding = input.shape, stride, padding
        return F.conv2d(input, weight, bias, stride, padding, groups=int(input.shape[1]))

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        gradient = torch.empty(ctx.shape, dtype=weight.dtype, device=weight.device, memory_format=torch.channels_last)
        axes = [
            list(_phases(*axis))
            for axis in zip(weight.shape[2:], ctx.stride, ctx.padding, ctx.shape[2:], outputs[0].shape[2:], strict=True)
        ]
        if any(phase.short for phase in (*axes[0], *axes[1])):
            gradient.zero_()
        for rows, columns in product(*axes):
            if rows.taps and columns.taps:
                kernel = weight[:, :, rows.first :: ctx.stride[0], columns.first :: ctx.stride[1]].flip(2, 3)
                part = F.conv2d(outputs[0], kernel, padding=(rows.taps - 1, columns.taps - 1), groups=int(ctx.shape[1]))
                gradient[:, :, rows.places, columns.places] = part[:, :, rows.of, columns.of]
        return gradient, None, None, None, None


@dataclass(frozen=True)
class _Phase:
    """The input pixels, along one axis, that one tap in `stride` reaches: taps first, first + stride, ...

    places: where they are in the input; of: where in the convolution that gives their gradient; short: pixels that no
    output reads come behind them.
    """

    first: int
    taps: int
    places: slice
    of: slice
    short: bool


def _phases(kernel: int, stride: int, padding: int, inputs: int, outputs: int) -> Iterator[_Phase]:
    """Output i reads pixel y with tap y + padding - stride i. With y + padding = stride a + first, those are the taps
    first + stride (a - i): a plain convolution of the outputs for every `first`."""
    for first in range(stride):
        taps = len(range(first, kernel, stride))
        begin = max(0, -((first - padding) // stride))  # the first a that is not in the padding
        wanted = len(range(stride * begin + first - padding, inputs, stride))
        count = max(0, min(wanted, outputs + taps - 1 - begin)) if taps else 0
        place = stride * begin + first - padding
        yield _Phase(
            first, taps, slice(place, place + stride * count, stride), slice(begin, begin + count), count < wanted
        )


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


def _differentiates_input_only(input: Tensor, weight: Tensor | None) -> bool:
    return input.requires_grad and input.ndim == 4 and (weight is None or not weight.requires_grad)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    first, *rest = value
    return int(first), int(rest[0] if rest else first)
