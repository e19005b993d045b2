"""Scores, by one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastxai.models.lanes import Work
from fastxai.models.probes import Reading, Scores
from fastxai.models.runner import Runner


class ScoreReader:
    """Reads `Scores`, eagerly or with compiled code."""

    def __init__(self, runner: Runner, compiled: Callable[[Tensor], Any] | None = None) -> None:
        self._runner, self._compiled = runner, compiled

    def read(self, probe: Scores, inputs: Tensor, targets: Tensor) -> Reading:
        """Of inputs [R, C, H, W] for targets [R, K]."""
        runner = self._runner
        inputs = runner.ready(inputs)  # out here: for compiled code, a tensor made in inference mode is another type
        with torch.inference_mode():
            logits = runner.run(self._compiled or runner.module, inputs).float()
            scores = runner.model.probabilities(logits) if probe.kind == "probability" else logits
            gathered = scores.gather(1, targets)
        return Reading(gathered.clone())  # a normal tensor: those of inference mode cannot be used with autograd

    def compile(self, rows: int, work: Work) -> None:
        """Compile now, for the shape of the run, so that neither its time nor its errors come in the middle."""
        probe = self._runner.blank(rows)
        targets = torch.zeros((rows, 1), dtype=torch.int64, device=self._runner.device)
        with self._runner.reported(probe):
            work.submit(lambda: self.read(Scores(), probe, targets))()
