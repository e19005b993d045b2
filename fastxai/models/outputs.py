"""From whatever a module returns to raw scores [B, classes]."""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor

from fastxai.errors import ArgumentError

KINDS = ("softmax", "sigmoid", "logits")


def find_logits(output: Any, batch: int) -> Tensor:
    """The scores in a module's output: the tensor itself, its `.logits`, or the first tensor of a tuple, list or dict.

    Returns [batch, classes], in the type the module computed in; one score a row may come as [batch].
    """
    tensor = first_tensor(output)
    if tensor is None:
        raise ArgumentError(
            "module must return a tensor, something with .logits, or a tuple, list or dict with a tensor in it, "
            f"got {type(output).__name__}"
        )
    if tensor.ndim == 1 and tensor.shape[0] == batch:
        tensor = tensor[:, None]
    if tensor.ndim != 2 or tensor.shape[0] != batch or not tensor.is_floating_point():
        raise ArgumentError(
            f"module must return floating-point scores [batch, classes], got {_named(tensor)} for a batch of {batch}"
        )
    return tensor


def first_tensor(output: Any) -> Tensor | None:
    """The tensor that stands for an output, None without one."""
    if isinstance(output, Tensor):
        return output
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, (tuple, list)):
        return next((item for item in output if isinstance(item, Tensor)), None)
    return None


def count_tensors(output: Any) -> int:
    """How many tensors an output holds, at any depth."""
    if isinstance(output, Tensor):
        return 1
    items = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    return sum(count_tensors(item) for item in items)


def with_first_tensor(output: Any, old: Tensor, new: Tensor) -> Any:
    """`output` with its tensor `old` (as `first_tensor` found it) replaced."""
    if output is old:
        return new
    if isinstance(output, tuple):
        items = [new if item is old else item for item in output]
        return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)
    if isinstance(output, list):
        return [new if item is old else item for item in output]
    if isinstance(output, MutableMapping):  # transformers' outputs among them
        replaced = copy.copy(output)
        for key, item in output.items():
            if item is old:
                replaced[key] = new
        return replaced
    raise ArgumentError(f"layer must return a tensor, or a tuple, list or dict with one, got {type(output).__name__}")


def probabilities(logits: Tensor, kind: str) -> Tensor:
    """Scores [B, classes] -> float32 probabilities; `logits` leaves them as they are."""
    logits = logits.float()
    if kind == "softmax":
        return torch.softmax(logits, dim=1)
    return torch.sigmoid(logits) if kind == "sigmoid" else logits


def _named(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
