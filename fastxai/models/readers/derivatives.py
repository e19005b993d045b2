"""Directional derivatives of all scores, by forward mode."""

from __future__ import annotations

from torch import Tensor, nn

from fastxai.models.forward_mode import read_derivatives, uniform_copy
from fastxai.models.outputs import find_logits
from fastxai.models.probes import DirectionalDerivatives, Reading, unpack_directions
from fastxai.models.runner import Runner


class DerivativeReader:
    """Reads `DirectionalDerivatives`, eagerly and without autocast: forward mode goes with neither."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._uniform: nn.Module | None = None

    def read(self, probe: DirectionalDerivatives, inputs: Tensor, targets: Tensor) -> Reading:
        """Of rows that `pack_directions` made, for targets [R, K]."""
        runner = self._runner
        module = runner.module
        if runner.autocast:
            self._uniform = self._uniform or uniform_copy(module, runner.dtype)
            module = self._uniform
        points, tangents = unpack_directions(inputs.to(runner.device, non_blocking=True), probe.directions)

        def forward(leaf: Tensor) -> Tensor:
            return runner.both(find_logits(module(leaf.clone() if runner.mutates else leaf), len(points)))

        ready = runner.ready(tangents.flatten(0, 1)).unflatten(0, tangents.shape[:2])
        return read_derivatives(forward, runner.ready(points), ready, targets)
