"""Convolutions whose gradients are forward convolutions, for which oneDNN has its fast code.

With a stride, the pixels that the same taps reach (every second one, with stride 2) get their gradient from a
convolution of the outputs with those taps, turned.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastxai.models.backward.frozen import differentiates_input_only, pair, weave

# oneDNN's smallest block of channels: a convolution to fewer takes as long.
BLOCK = 16


def conv2d(
    constant: bool,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """`F.conv2d`. constant: the weights will be constants of compiled code, where turning them costs nothing."""
    strides, pads, depthwise = pair(stride), padding, groups == input.shape[1] == weight.shape[0] > 1
    if (
        differentiates_input_only(input, weight)
        and weight.dtype in (torch.bfloat16, torch.float32)
        and pair(dilation) == (1, 1)
        and not isinstance(pads, str)
    ):
        pads, output = pair(pads), None
        strided, points = max(strides) > 1, weight.shape[2:] == (1, 1)
        if strided and (depthwise or (constant and groups == 1 and (points or _thin(weight, strides)))):
            output = _Strided.apply(input.to(weight.dtype), weight, bias, strides, pads, groups)
        elif constant and (depthwise or groups == 1) and not strided and _covers(weight, pads):
            output = _Plain.apply(input.to(weight.dtype), weight, bias, pads, groups)
        if isinstance(output, Tensor):
            return output
    return F.conv2d(input, weight, bias, stride, padding, dilation, groups)


def _covers(weight: Tensor, padding: tuple[int, int]) -> bool:
    return all(p < k for p, k in zip(padding, weight.shape[2:], strict=True))


def _thin(weight: Tensor, stride: tuple[int, int]) -> bool:
    """Whether the gradients of all pixels within a stride are no more channels than one block of oneDNN's."""
    return int(weight.shape[1]) * stride[0] * stride[1] <= BLOCK


def _turned(weight: Tensor, groups: int) -> Tensor:
    return weight.flip(2, 3) if groups > 1 else weight.flip(2, 3).transpose(0, 1)


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
        padding = tuple(k - 1 - p for k, p in zip(weight.shape[2:], ctx.padding, strict=True))
        inputs = F.conv2d(outputs[0], _turned(weight, ctx.groups), padding=padding, groups=ctx.groups)
        return inputs, None, None, None, None


class _Strided(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        groups: int,
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.stride, ctx.padding, ctx.groups = input.shape, stride, padding, groups
        return F.conv2d(input, weight, bias, stride, padding, groups=groups)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        kernel, stride, groups, channels = weight.shape[2:], ctx.stride, ctx.groups, int(ctx.shape[1])
        taps = [-(-k // s) for k, s in zip(kernel, stride, strict=True)]
        weight = F.pad(weight, (0, taps[1] * stride[1] - kernel[1], 0, taps[0] * stride[0] - kernel[0]))
        padding = (taps[0] - 1, taps[1] - 1)

        # Of the padded input, pixel s a + r is read by output i with tap r + s (a - i): for every r that is a plain
        # convolution of the outputs, whose results stand s apart.
        def turned(i: int, j: int) -> Tensor:
            return _turned(weight[:, :, i :: stride[0], j :: stride[1]], groups)

        if groups == 1 and _thin(weight, stride):  # all of them in one
            every = torch.cat([turned(i, j) for i in range(stride[0]) for j in range(stride[1])])
            found = F.conv2d(outputs[0], every, padding=padding).unflatten(1, (stride[0], stride[1], channels))
            part = lambda i, j: found[:, i, j]  # noqa: E731
        else:

            def part(i: int, j: int) -> Tensor:
                if i < kernel[0] and j < kernel[1]:
                    return F.conv2d(outputs[0], turned(i, j), padding=padding, groups=groups)
                return outputs[0].new_zeros(()).expand(outputs[0].shape[0], channels, *outputs[0].shape[2:])

        return weave(part, stride, ctx.padding, ctx.shape), None, None, None, None, None
