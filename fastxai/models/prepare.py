"""The private copy that a session works on."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from fastxai.errors import ArgumentError


def private_copy(module: nn.Module, device: torch.device) -> nn.Module:
    """A frozen float32 copy in evaluation mode on `device`, also of half-precision modules; `module` is not touched."""
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
    return private.float().to(device)


def twin(module: nn.Module) -> nn.Module:
    """A copy with the same parameters and everything else its own: what a module keeps on itself while it runs is
    not met by another thread."""
    return copy.deepcopy(module, {id(parameter): parameter for parameter in module.parameters()})


def lower_weights(module: nn.Module, dtype: torch.dtype) -> bool:
    """Give convolution and linear weights `dtype`, in place, and all of them channels-last memory.

    Norm layers and loose parameters stay float32, as autocast would keep them. Returns whether there are any of these:
    a module without them computes in `dtype` throughout and needs no autocast around it.
    """
    weights = [part for part in module.modules() if isinstance(part, (_ConvNd, nn.Linear))]
    for part in weights:
        part.to(dtype)
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    lowered = {id(tensor) for part in weights for tensor in (*part.parameters(), *part.buffers())}
    others = [tensor for tensor in (*module.parameters(), *module.buffers()) if id(tensor) not in lowered]
    return any(tensor.is_floating_point() for tensor in others)
