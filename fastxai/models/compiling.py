"""Compiled forms of a model: its scores, and its scores with the input gradients of K targets.

Both are compiled with the weights as constants, for one shape. oneDNN's layout of the weights is then made once, and
activations, residual sums and whatever lies between convolutions become part of them or of one loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

# Probe kinds that can be compiled. Gradients on a GPU: not tried, eager there.
COMPILED_KINDS: Mapping[str, tuple[str, ...]] = {"cpu": ("scores", "gradients"), "cuda": ("scores",)}
# Every target is a backward pass of its own in the code, so that compiling takes longer and longer.
MOST_TARGETS = 8

Gradients = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def compile_scores(module: Callable[[Tensor], Any], device: torch.device) -> Callable[[Tensor], Any]:
    """`module` for inputs of one shape, compiled at its first call; a GPU replays the calls as one graph."""
    return _compiled(module, device)


def compile_gradients(differentiate: Gradients, inputs: Tensor, targets: Tensor) -> Gradients:
    """`differentiate` (inputs [R, C, H, W], targets [R, K] -> scores, gradients), traced for the shapes of these.

    Forward and backward passes become one graph without gradients of its own: compiled backward passes refuse frozen
    weights as constants, and a second walk over one graph. Raises whatever tracing raises where the model looks at its
    numbers to decide what to do.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(differentiate)(inputs, targets)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    run = _compiled(graph, inputs.device)

    def gradients(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            scores, found = run(inputs, targets)
        return scores, found

    return gradients


def _compiled(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    from torch._inductor import config

    def call(*arguments: Tensor) -> Any:
        return function(*arguments)

    # What was compiled is kept with the code object, up to a number of times, and for as long as that lives. With a
    # code object of its own, a session takes nothing from the next one and leaves nothing behind.
    call.__code__ = call.__code__.replace()
    options: dict[str, Any] | None = {"triton.cudagraphs": True} if device.type == "cuda" else None
    run: Callable[..., Any] = torch.compile(call, dynamic=False, options=options)

    def compiled(*arguments: Tensor) -> Any:
        # Set around the call: as one of torch.compile's options it comes too late for the tracing, which then passes
        # the weights as arguments.
        with config.patch(freezing=True):
            return run(*arguments)

    return compiled
