"""Predictions: one forward pass, which may record layers on its way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from fastxai.models.compiling import Backward, Forward, compile_stages
from fastxai.models.lookup import LayerLookup
from fastxai.models.probes import Prediction, Recording
from fastxai.models.record import Recorder, assemble
from fastxai.models.runner import Runner


class Predictor:
    """Predicts, eagerly or with code compiled for the layers that are recorded.

    compiled: of predictions that record nothing.
    """

    def __init__(self, runner: Runner, lookup: LayerLookup, compiled: Callable[[Tensor], Any] | None = None) -> None:
        self._runner, self._lookup, self._compiled = runner, lookup, compiled
        self._stages: dict[tuple[Any, ...], tuple[Forward, Backward]] = {}  # by the layers and the shape of the inputs

    def predict(self, inputs: Tensor, layers: Sequence[str] = ()) -> Prediction:
        """Of inputs [P, C, H, W], with the outputs of `layers`."""
        runner = self._runner
        if not layers:
            return self._plain(inputs)
        if "predict" in runner.settings.compile:
            return self._in_stages(runner.ready(inputs).detach(), tuple(layers))
        recorder, outputs, logits = self.record(runner.ready(inputs).detach(), layers)

        def record(targets: Tensor) -> Mapping[str, Recording]:
            scores, last = logits.gather(1, targets.to(runner.device)), targets.shape[1] - 1

            def gradients(k: int) -> Sequence[Tensor]:
                return recorder.gradients(outputs, scores[:, k], runner.scale, again=k < last)

            found = assemble(layers, recorder.maps([output.detach() for output in outputs]), last + 1, gradients)
            outputs.clear()
            return found

        return Prediction(logits.detach(), record)

    def record(
        self, inputs: Tensor, layers: Sequence[str], *, constant: bool = False
    ) -> tuple[Recorder, list[Tensor], Tensor]:
        """A forward pass with what it recorded, and its scores."""
        runner = self._runner
        module = runner.module
        runner.restore(layers)
        recorder = Recorder(module, self._lookup.layouts(layers))
        with recorder, torch.enable_grad():
            logits = runner.run(module, inputs, constant=constant)
        recorder.check(logits)
        return recorder, recorder.take(), logits

    def _plain(self, inputs: Tensor) -> Prediction:
        runner = self._runner
        ready = runner.ready(inputs)  # out here, as for scores
        # What goes wrong while code is compiled is put in one line; elsewhere the engine must see memory run out.
        with torch.inference_mode(), runner.reported(ready) if self._compiled else nullcontext():
            logits = runner.run(self._compiled or runner.module, ready)
        return Prediction(logits.clone(), lambda targets: {})  # a clone made out here is a normal tensor

    def _in_stages(self, inputs: Tensor, layers: tuple[str, ...]) -> Prediction:
        """Compiled for this shape and these layers, at the first call with them."""
        runner = self._runner

        def predict(inputs: Tensor, targets: Tensor) -> list[Tensor]:
            recorder, outputs, logits = self.record(inputs, layers, constant=True)
            with torch.enable_grad():
                scores = logits.gather(1, targets)[:, 0]
            found = recorder.gradients(outputs, scores, runner.scale, again=False)
            return [logits.detach(), *recorder.maps([output.detach() for output in outputs]), *found]

        key = (layers, *inputs.shape)
        if key not in self._stages:
            self._lookup.layouts(layers)  # which looks at the model's numbers: compiled code cannot
            blank = torch.zeros((len(inputs), 1), dtype=torch.int64, device=runner.device)
            with runner.reported(inputs):
                forward, backward = compile_stages(predict, inputs, blank)
                backward(forward(inputs), blank)
            self._stages[key] = forward, backward
        forward, backward = self._stages[key]
        kept = forward(inputs)

        def record(targets: Tensor) -> Mapping[str, Recording]:
            targets = targets.to(runner.device)
            activations = kept[1 : 1 + len(layers)]
            return assemble(
                layers, activations, targets.shape[1], lambda k: backward(kept, targets[:, k : k + 1].contiguous())
            )

        return Prediction(kept[0], record)
