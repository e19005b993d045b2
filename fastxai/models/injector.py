"""Putting other activations in the place of a layer's output, for the length of one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from fastxai.errors import ArgumentError
from fastxai.memory import out_of_memory
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


def is_bottleneck(
    scores: Callable[[Tensor, Tensor], Tensor], pictures: Tensor, other: Tensor, activations: Tensor
) -> bool:
    """Whether all that reaches the scores comes through the layer, so that one picture does for many rows.

    scores: of pictures, with activations in the place of the layer's output; pictures [R, C, H, W], another one
    [1, C, H, W], activations [R, ...].

    It does not where pictures that want gradients make scores that do, although the layer's output was replaced. Then
    another picture, and fewer of them than rows, must give the same bits: gradients may have been cut on the way, and
    a module may look at how many inputs it has.
    """
    with torch.enable_grad():
        found = scores(pictures.detach().requires_grad_().clone(), activations)
    if found.requires_grad:
        return False
    with torch.inference_mode():
        wanted = scores(pictures, activations)
        try:
            return torch.equal(scores(other, activations), wanted)
        except Exception as error:  # whatever is raised where more rows come out than went in
            if out_of_memory(error):
                raise
            return False
