"""Faster backward passes of frozen layers on the CPU, where torch's own were measured to be slow.

Strided depthwise convolutions go back as plain ones, for which oneDNN has its fast forward code: the pixels that the
same taps reach (every second one, with stride 2) get their gradient from a convolution with those taps, turned. ReLU6
keeps its result instead of its input: in place, torch copies the input first. Batch norms with fixed statistics go
back as what they are, one factor a channel, where torch also prepares the gradients of weights that are frozen.
Forward passes are torch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class FrozenBackward(TorchFunctionMode):
    """Inside it `F.conv2d`, `F.batch_norm`, `F.hardtanh` and `F.relu6`, which their modules call, go back this way.

    constant: what runs will be compiled with its weights as constants. Plain convolutions then go back as forward ones
    too: turning their weights costs nothing, and what follows them becomes part of them.
    """

    def __init__(self, constant: bool = False) -> None:
        super().__init__()
        self._constant = constant

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.conv2d:
            return _conv2d(self._constant, *args, **kwargs)
        if func is F.batch_norm:
            return _batch_norm(*args, **kwargs)
        if func is F.hardtanh:
            return _hardtanh(*args, **kwargs)
        if func is F.relu6:
            return _relu6(*args, **kwargs)
        return func(*args, **kwargs)


def _conv2d(
    constant: bool,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    strides, pads, depthwise = _pair(stride), padding, groups == input.shape[1] == weight.shape[0] > 1
    if (
        _differentiates_input_only(input, weight)
        and weight.dtype in (torch.bfloat16, torch.float32)
        and _pair(dilation) == (1, 1)
        and not isinstance(pads, str)
    ):
        pads, output = _pair(pads), None
        if depthwise and max(strides) > 1:
            output = _StridedDepthwise.apply(input.to(weight.dtype), weight, bias, strides, pads)
        elif constant and (depthwise or groups == 1) and strides == (1, 1) and _covers(weight, pads):
            output = _Plain.apply(input.to(weight.dtype), weight, bias, pads, groups)
        if isinstance(output, Tensor):
            return output
    return F.conv2d(input, weight, bias, stride, padding, dilation, groups)


def _covers(weight: Tensor, padding: tuple[int, int]) -> bool:
    return all(p < k for p, k in zip(padding, weight.shape[2:], strict=True))


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


class _Plain(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int], groups: int
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.padding, ctx.groups = padding, groups
        return F.conv2d(input, weight, bias, padding=padding, groups=groups)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        turned = weight.flip(2, 3) if ctx.groups > 1 else weight.flip(2, 3).transpose(0, 1)
        padding = tuple(k - 1 - p for k, p in zip(weight.shape[2:], ctx.padding, strict=True))
        return F.conv2d(outputs[0], turned, padding=padding, groups=ctx.groups), None, None, None, None


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
        kernel, strides = weight.shape[2:], ctx.stride
        taps = [-(-k // s) for k, s in zip(kernel, strides, strict=True)]
        weight = F.pad(weight, (0, taps[1] * strides[1] - kernel[1], 0, taps[0] * strides[0] - kernel[0]))
        # Of the padded input, pixel s a + r is read by output i with tap r + s (a - i): for every r that is a plain
        # convolution of the outputs, whose results stand s apart.
        size = [-(-(p + side) // s) for p, side, s in zip(ctx.padding, ctx.shape[2:], strides, strict=True)]
        rows = []
        for i in range(strides[0]):
            columns = []
            for j in range(strides[1]):
                turned = weight[:, :, i :: strides[0], j :: strides[1]].flip(2, 3)
                part = F.conv2d(outputs[0], turned, padding=(taps[0] - 1, taps[1] - 1), groups=int(ctx.shape[1]))
                missing = [max(0, have - want) for have, want in zip(size, part.shape[2:], strict=True)]
                if any(missing):  # pixels that no output reads
                    part = F.pad(part, (0, missing[1], 0, missing[0]))
                columns.append(part[:, :, : size[0], : size[1]].permute(0, 2, 3, 1))
            rows.append(torch.stack(columns, dim=3))
        canvas = torch.stack(rows, dim=2).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
        top, left = ctx.padding
        return canvas[:, :, top : top + ctx.shape[2], left : left + ctx.shape[3]], None, None, None, None


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
