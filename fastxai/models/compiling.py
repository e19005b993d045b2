"""Compiled forms of a model: its scores, its scores with the input gradients of K targets, and predictions that record
layers.

All are compiled with the weights as constants, for one shape. oneDNN's layout of the weights is then made once, and
activations, residual sums and whatever lies between convolutions become part of them or of one loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from fastxai.errors import CannotRun

# Probe kinds that can be compiled. The others on a GPU: not tried, eager there.
COMPILED_KINDS: Mapping[str, tuple[str, ...]] = {"cpu": ("scores", "gradients", "predict"), "cuda": ("scores",)}
# Every target is a backward pass of its own in the code, so that compiling takes longer and longer.
MOST_TARGETS = 8

Gradients = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Forward = Callable[[Tensor], Sequence[Tensor]]
Backward = Callable[..., Sequence[Tensor]]


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


def compile_stages(
    predict: Callable[[Tensor, Tensor], Sequence[Tensor]], *arguments: Tensor
) -> tuple[Forward, Backward]:
    """`predict` (inputs, targets -> several tensors) in two compiled stages, traced for the shapes of the arguments.

    The first, (inputs), gives the results that do not depend on the targets, behind them whatever the second needs;
    the second, (that, targets), gives the other results. So targets may be chosen by what the first has found.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(predict)(*arguments)
    graph.graph.eliminate_dead_code()
    first, second, found = _split(graph)
    run, finish = (_compiled(stage, arguments[0].device) for stage in (first, second))

    def forward(inputs: Tensor) -> Sequence[Tensor]:
        with torch.no_grad():
            return tuple(run(inputs))

    def backward(kept: Sequence[Tensor], targets: Tensor) -> Sequence[Tensor]:
        with torch.no_grad():
            return tuple(finish(*kept[found:], targets))

    return forward, backward


def _split(whole: fx.GraphModule) -> tuple[fx.GraphModule, fx.GraphModule, int]:
    """Two graphs, before and behind the second argument of one, and how many results the first has of its own."""
    nodes = list(whole.graph.nodes)
    _, targets = (node for node in nodes if node.op == "placeholder")
    (results,) = nodes[-1].args
    late = {targets}
    for node in nodes[:-1]:
        if any(source in late for source in node.all_input_nodes):
            late.add(node)
            if _writes(node) and node.all_input_nodes[0] not in late:
                raise CannotRun("its backward pass writes on results of the forward pass, which cannot be taken apart")
    weights = {node for node in nodes if node.op == "get_attr"}
    early = [result for result in results if result not in late]
    used = {source for node in nodes if node in late for source in node.all_input_nodes}
    kept = [node for node in nodes if node in used and node not in late and node not in weights]

    first, places = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in nodes[:-1]:
        if node not in late:
            places[node] = first.node_copy(node, places.__getitem__)
    first.output(tuple(places[node] for node in (*early, *kept)))
    second, places = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in kept:
        places[node] = second.placeholder(node.name)
    for node in nodes[:-1]:
        if node in late or node in weights:
            places[node] = second.node_copy(node, places.__getitem__)
    second.output(tuple(places[node] for node in results if node in late))
    for graph in (first, second):
        graph.eliminate_dead_code()
    return fx.GraphModule(whole, first), fx.GraphModule(whole, second), len(early)


def _writes(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _compiled(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    from torch._inductor import config

    def call(*arguments: Tensor) -> Any:
        return function(*arguments)

    # What was compiled is kept with the code object, up to a number of times, and for as long as that lives. With a
    # code object of its own, a session takes nothing from the next one and leaves nothing behind.
    call.__code__ = call.__code__.replace()
    options: dict[str, Any] | None = {"triton.cudagraphs": True} if device.type == "cuda" else None
    # Called from Python, every loop on a CPU holds the interpreter's lock: lanes and the threads beside the model would
    # wait for one another. Called from C++, nothing of a call does.
    patch = {"freezing": True, "cpp_wrapper": device.type == "cpu"}
    run: Callable[..., Any] = torch.compile(call, dynamic=False, options=options)
    ready, one_at_a_time = set[object](), threading.Lock()

    def compiled(*arguments: Tensor) -> Any:
        # Code is compiled for shapes and for torch's number of threads.
        form = (torch.get_num_threads(), *(argument.shape for argument in arguments))
        if form in ready:
            return run(*arguments)
        # Set around the call: freezing as one of torch.compile's options comes too late for the tracing, which then
        # passes the weights as arguments. It holds for the process, so threads do this one after the other.
        with one_at_a_time, config.patch(patch):
            result = run(*arguments)
        ready.add(form)
        return result

    return compiled
