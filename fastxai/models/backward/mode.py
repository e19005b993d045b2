"""The mode in which a module's layers go back our way, whatever wrote the module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from fastxai.models.backward.convolutions import conv2d
from fastxai.models.backward.pointwise import batch_norm, hardtanh, relu6


class FrozenBackward(TorchFunctionMode):
    """Inside it `F.conv2d`, `F.batch_norm`, `F.hardtanh` and `F.relu6`, which their modules call, go back this way.
    Forward passes give what torch's own give, bit for bit.

    constant: what runs will be compiled with its weights as constants. More convolutions then go back as forward ones:
    turning their weights costs nothing, and what follows them becomes part of them.
    """

    def __init__(self, constant: bool = False) -> None:
        super().__init__()
        self._constant = constant

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.conv2d:
            return conv2d(self._constant, *args, **kwargs)
        if func is F.batch_norm:
            return batch_norm(*args, **kwargs)
        if func is F.hardtanh:
            return hardtanh(*args, **kwargs)
        if func is F.relu6:
            return relu6(*args, **kwargs)
        return func(*args, **kwargs)
