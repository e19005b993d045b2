"""Input gradients of several targets' scores, by one forward and a backward pass a target."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import torch
from torch import Tensor

from fastxai.models.compiling import MOST_TARGETS, Gradients, compile_gradients
from fastxai.models.probes import InputGradients, Reading
from fastxai.models.runner import Runner


class GradientReader:
    """Reads `InputGradients`, eagerly or with code compiled for each shape at the first call with it."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._compiling = threading.Lock()  # lanes compile at their first chunk
        self._compiled: dict[tuple[int, ...], Gradients] = {}  # by the shape of inputs and targets

    def read(self, probe: InputGradients, inputs: Tensor, targets: Tensor) -> Reading:
        """Of inputs [R, C, H, W] for targets [R, K]."""
        runner = self._runner
        rows, count = targets.shape
        ready = runner.ready(inputs).detach()
        if "gradients" in runner.settings.compile and count <= MOST_TARGETS:
            return Reading(*self._compiled_for(ready, targets)(ready, targets))
        out = torch.empty((rows, count, *inputs.shape[1:]), dtype=torch.float32, device=runner.device)
        scores, gradients = self._backward(ready, targets)
        for k, gradient in enumerate(gradients):
            out[:, k].copy_(gradient)
        if runner.scale != 1.0:
            out.div_(runner.scale)
        return Reading(scores, out)

    def _backward(self, inputs: Tensor, targets: Tensor, *, constant: bool = False) -> tuple[Tensor, Iterator[Tensor]]:
        """Scores [R, K], and for one target after the other the gradients [R, C, H, W] of `scale` times its score."""
        runner, count = self._runner, int(targets.shape[1])
        leaf = inputs.detach().requires_grad_()
        with torch.enable_grad():
            logits = runner.run(runner.module, leaf.clone() if runner.mutates else leaf, constant=constant)
            scores = logits.gather(1, targets)

        def gradients() -> Iterator[Tensor]:
            for k in range(count):
                with torch.enable_grad():
                    total, scale = scores[:, k].sum(), torch.full_like(scores[0, 0], runner.scale)
                (gradient,) = torch.autograd.grad(total, leaf, scale, retain_graph=k < count - 1)
                yield gradient

        return scores.detach().float(), gradients()

    def _compiled_for(self, inputs: Tensor, targets: Tensor) -> Gradients:
        def differentiate(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            scores, gradients = self._backward(inputs, targets, constant=True)
            parts = torch.stack([gradient.float() / self._runner.scale for gradient in gradients], dim=1)
            return scores, parts.contiguous()  # as sums are, which they are added to

        shapes = (*inputs.shape, *targets.shape)
        with self._compiling:
            if shapes not in self._compiled:
                with self._runner.reported(inputs):
                    made = compile_gradients(differentiate, inputs, targets)
                    made(inputs, targets)
                self._compiled[shapes] = made
            return self._compiled[shapes]
