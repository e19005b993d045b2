"""Scores with other activations in the place of a layer's output."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from fastxai.models.injector import Injector, is_bottleneck
from fastxai.models.lookup import LayerLookup
from fastxai.models.probes import InjectedScores, Reading, unpack_injections
from fastxai.models.runner import Runner, waves


class InjectedReader:
    """Reads `InjectedScores`, eagerly: compiled code has no place for other activations."""

    def __init__(self, runner: Runner, lookup: LayerLookup) -> None:
        self._runner, self._lookup = runner, lookup
        self._bottlenecks: dict[str, bool] = {}  # by layer, see `is_bottleneck`

    def read(self, probe: InjectedScores, inputs: Tensor, targets: Tensor) -> Reading:
        """Of rows that `pack_injections` made, for targets [R, K]."""
        runner = self._runner
        packed = inputs.to(runner.device, non_blocking=True)
        pictures, activations = unpack_injections(packed, runner.input_shape, probe.shape)
        if self._is_bottleneck(probe):
            pictures = pictures[:1]  # any will do
        with torch.inference_mode():
            gathered = self._with_activations(probe, runner.ready(pictures), activations).gather(1, targets)
        return Reading(gathered.clone())

    def check(self, probe: InjectedScores) -> None:
        """Try the probe out; `ArgumentError` where the layer's output cannot be replaced."""
        with self._runner.reported(self._runner.blank(2)):
            self._is_bottleneck(probe)

    def _with_activations(self, probe: InjectedScores, inputs: Tensor, activations: Tensor) -> Tensor:
        runner, moved = self._runner, self._lookup.positions_first(probe.layer)
        module = runner.module
        runner.restore((probe.layer,))
        with Injector(module, probe.layer, activations.movedim(1, -1) if moved else activations) as injector:
            logits = runner.run(module, inputs, rows=len(activations))
        injector.check()
        return logits

    def _is_bottleneck(self, probe: InjectedScores) -> bool:
        if probe.layer not in self._bottlenecks:
            runner = self._runner
            pictures = runner.ready(waves((2, *runner.input_shape)))
            activations = waves((2, *probe.shape)).to(runner.device)
            scores = partial(self._with_activations, probe)
            self._bottlenecks[probe.layer] = is_bottleneck(scores, pictures, runner.blank(1), activations)
        return self._bottlenecks[probe.layer]
