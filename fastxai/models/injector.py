"""Putting other activations in the place of a layer's output, for the length of one forward pass."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from fastxai.errors import ArgumentError
from fastxai.models.outputs import first_tensor, with_first_tensor


class Injector:
    """A hook on a layer for the length of a `with` block around one forward pass.

    activations [R, ...]: what goes on in the place of the layer's first output tensor, in that one's type and memory
    layout. It may have more rows than the layer was given.
    """

    def __init__(self, module: nn.Module, layer: str, activations: Tensor) -> None:
        self._part, self._layer, self._activations = module.get_submodule(layer), layer, activations
        self._runs = 0

    def __enter__(self) -> Injector:
        self._handle = self._part.register_forward_hook(self._hook)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.remove()

    def check(self) -> None:
        """The layer must have run once: of several outputs it is not known which one was meant."""
        if self._runs != 1:
            raise ArgumentError(
                f"layer must run once in the model's forward pass, got {self._layer!r}, which runs {self._runs} times"
            )

    def _hook(self, part: nn.Module, arguments: Any, output: Any) -> Any:
        self._runs += 1
        tensor = first_tensor(output)
        if tensor is None or tensor.shape[1:] != self._activations.shape[1:]:
            wanted = list(self._activations.shape[1:])
            found = type(output).__name__ if tensor is None else list(tensor.shape[1:])
            raise ArgumentError(
                f"layer must give {wanted} an image to have it replaced, got {self._layer!r}, which gives {found}"
            )
        last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last and not tensor.is_contiguous() else torch.contiguous_format
        # A copy: what follows may write on it.
        injected = self._activations.to(tensor.device, tensor.dtype, copy=True, memory_format=layout)
        return with_first_tensor(output, tensor, injected)
