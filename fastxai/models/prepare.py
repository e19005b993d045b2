"""The private copy that a session works on."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from fastxai.errors import ArgumentError


def private_copy(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A frozen copy in evaluation mode, channels last, on `device`; `module` itself is not touched.

    Everything is float32 first, also where the module came in half precision. Convolution and linear weights then
    take `dtype`; norm layers and loose parameters stay float32, as autocast would keep them. Weights in `dtype`
    spare autocast the cast of every weight in every call.
    """
    try:
        private = copy.deepcopy(module)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ArgumentError(
            f"module must be one that copy.deepcopy can copy, got {type(module).__name__}: {reason}"
        ) from error
    private.eval().requires_grad_(False)
    for parameter in private.parameters():
        parameter.grad = None
    private = private.float().to(device)
    if dtype != torch.float32:
        for part in private.modules():
            if isinstance(part, (_ConvNd, nn.Linear)):
                part.to(dtype)
    for parameter in private.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return private
