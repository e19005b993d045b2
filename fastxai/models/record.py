"""Recording layers in a forward pass, so that gradients of its scores reach them and nothing before them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from fastxai.errors import ArgumentError
from fastxai.models.layouts import Layout
from fastxai.models.outputs import first_tensor, with_first_tensor
from fastxai.models.probes import Recording


class Recorder:
    """Hooks on named layers for the length of a `with` block around one forward pass.

    The first layer that runs gives a leaf of the graph: with frozen parameters and an input without gradient there
    is no graph before it. What goes on through the model is a clone, so an in-place ReLU behind the layer does not
    write into the recording. A layer that runs more than once is recorded the last time. layers: name -> how the
    positions lie in its output, which is turned into [B, D, h, w] in the recording.
    """

    def __init__(self, module: nn.Module, layers: Mapping[str, Layout]) -> None:
        parts = dict(module.named_modules())
        for name in layers:
            if name not in parts:
                raise ArgumentError(f"layer must be a layer of the model, got {name!r}")
        self._parts = {name: parts[name] for name in layers}
        self._layouts = dict(layers)
        self._found: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> Recorder:
        for name, part in self._parts.items():
            self._handles.append(part.register_forward_hook(self._hook(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def check(self, logits: Tensor) -> None:
        """Every layer must have run and given feature maps; one of them at least must have led to the scores."""
        for name in self._parts:
            if name not in self._found:
                raise ArgumentError(f"layer must run in the model's forward pass, got {name!r}, which did not")
            layout, shape = self._layouts[name], list(self._found[name].shape)
            if not layout.fits(self._found[name]):
                raise ArgumentError(f"layer must give feature maps {layout.form}, got {name!r}, which gives {shape}")
        if not logits.requires_grad:
            raise _leads_nowhere(next(iter(self._parts)))

    def take(self) -> list[Tensor]:
        """The layers' outputs, with their graph, which from now on lives as long as they do."""
        outputs = [self._found[name] for name in self._parts]
        self._found.clear()
        return outputs

    def maps(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """Outputs of the layers, or gradients of those, as float32 [P, D, h, w]."""
        layouts = self._layouts.values()
        return [layout.maps(tensor).float() for layout, tensor in zip(layouts, outputs, strict=True)]

    def gradients(self, outputs: Sequence[Tensor], scores: Tensor, scale: float, *, again: bool) -> list[Tensor]:
        """Gradients of one score an input, [P], with respect to what `take` gave; again: the graph is used again.

        `scale` goes in with the scores and is divided out again.
        """
        total, seed = scores.sum(), torch.full_like(scores[0], scale)
        found = torch.autograd.grad(total, outputs, seed, retain_graph=again, allow_unused=True)
        for name, gradient in zip(self._parts, found, strict=True):
            if gradient is None:
                raise _leads_nowhere(name)
        return [gradient / scale for gradient in self.maps(found)] if scale != 1.0 else self.maps(found)

    def _hook(self, name: str) -> Any:
        def hook(part: nn.Module, arguments: Any, output: Any) -> Any:
            tensor = first_tensor(output)
            if tensor is None:
                raise ArgumentError(f"layer must return a tensor, got {name!r}, which returns {type(output).__name__}")
            # Behind an earlier recorded layer there is a graph already: cutting it here would take that layer's
            # gradient away.
            recorded = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
            self._found[name] = recorded
            return with_first_tensor(output, tensor, recorded.clone())

        return hook


def assemble(
    names: Sequence[str], activations: Sequence[Tensor], targets: int, gradients: Callable[[int], Sequence[Tensor]]
) -> dict[str, Recording]:
    """Layer name -> `Recording`, of activations [P, D, h, w] each; gradients: those of target k, of the same shapes."""
    into = [torch.empty((len(a), targets, *a.shape[1:]), dtype=torch.float32, device=a.device) for a in activations]
    for k in range(targets):
        for all_of_layer, gradient in zip(into, gradients(k), strict=True):
            all_of_layer[:, k].copy_(gradient)
    found = zip(names, activations, into, strict=True)
    return {name: Recording(activation.contiguous(), gradient) for name, activation, gradient in found}


def _leads_nowhere(name: str) -> ArgumentError:
    return ArgumentError(f"layer must give what the scores are computed from, got {name!r}, whose first output is not")
