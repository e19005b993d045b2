"""Integrated Gradients: the straight path from a baseline to the picture, by a quadrature rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fastxai import ops
from fastxai.config import check_choice, check_float, check_int
from fastxai.errors import ArgumentError
from fastxai.explainers.base import Batch, Block, every_row
from fastxai.explainers.baselines import Baselines, as_baseline
from fastxai.explainers.path_task import PathTask
from fastxai.explainers.pixel_gradients import PixelGradients
from fastxai.explainers.pixel_results import attribution_fields
from fastxai.models import InputGradients, Reading
from fastxai.transfer import on_device
from fastxai.types import Field, Preprocess

RULES = ("gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid")


@dataclass(frozen=True)
class IntegratedGradients(PixelGradients):
    """Integrated Gradients: (x - b) * sum_k w_k dF/dx at b + alpha_k (x - b), F the raw score of the target.

    (Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", 2017; `captum.attr.IntegratedGradients`.)
    rule: the nodes alpha_k and weights w_k of the integral over [0, 1] with `steps` points, by captum's names. The
    weights of every rule sum to 1; those of captum's trapezoids sum to (steps - 1) / steps.

    baseline: "black", "mean" (each picture's own mean colour), "blur" (the picture, blurred by `blur` pixels) or one
    picture for all: uint8 [1, C, H, W], or its path. delta: sum(attributions) - (F(x) - F(b)), by which completeness
    is missed; NaN where it is not asked for.

    Model calls: `steps` forward passes an image, each with a backward pass a target; for the delta one forward pass
    more an image, or one for all images where they share the baseline.
    """

    method: ClassVar[str] = "integrated-gradients"
    steps: int = 50
    rule: str = "gausslegendre"
    baseline: Any = "black"
    blur: float = 10.0
    delta: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("rule", self.rule, RULES)
        check_int("steps", self.steps, 1 if self.rule == "gausslegendre" else 2)
        check_float("blur", self.blur, 0, above=True)
        object.__setattr__(self, "baseline", as_baseline(self.baseline))
        if self.baseline == "random":
            raise ArgumentError("baseline must be one for all points of a picture's path, got 'random'")
        if not isinstance(self.delta, bool):
            raise ArgumentError(f"delta must be True or False, got {self.delta!r}")

    def settle(self, preprocess: Preprocess, ids: Sequence[str]) -> IntegratedGradients:
        if not isinstance(self.baseline, Baselines):
            return self
        loaded = self.baseline.load(preprocess)
        if len(loaded.pictures) != 1:
            raise ArgumentError(
                f"baseline must be one picture, got {len(loaded.pictures)}: expected-gradients takes a data set"
            )
        return replace(self, baseline=loaded)

    def row_count(self, targets: int) -> Mapping[str, int]:
        return {"gradients": self.steps, "scores": int(self.delta)}

    def fields(self) -> tuple[Field, ...]:
        return attribution_fields(self.attributions, delta=True)

    def begin(self, batch: Batch) -> IntegratedGradientsTask:
        return IntegratedGradientsTask(self, batch)

    @property
    def delta_rows(self) -> bool:
        """Whether end points are read for the convergence delta."""
        return self.delta


class IntegratedGradientsTask(PathTask):
    """Weighted sums of gradients at every pixel."""

    def __init__(self, config: IntegratedGradients, batch: Batch) -> None:
        super().__init__(config, batch, config.steps)
        self.keep = config.attributions
        self.nodes, self.weights = (part.to(batch.inputs.device) for part in quadrature(config.rule, config.steps))
        self.sums = torch.zeros(*batch.targets.shape, *batch.inputs.shape[1:], device=batch.inputs.device)
        self.stages = ["gradients", *self.stages]

    def block_of(self, stage: str) -> Block:
        return Block(*every_row(len(self.batch), self.samples), InputGradients())

    def draws(self, image: Tensor, ordinal: Tensor) -> tuple[Tensor, Tensor]:
        """Nothing is drawn: the nodes of the rule, and the one baseline."""
        number = on_device(ordinal, self.nodes.device)
        return self.nodes[number], torch.zeros_like(number)

    def points(self, pictures: Tensor, bases: Tensor, alpha: Tensor) -> Tensor:
        return bases + alpha.reshape(-1, 1, 1, 1) * (pictures - bases)  # rounds as captum's does

    def fold_path(self, block: Block, reading: Reading) -> None:
        assert reading.gradients is not None
        weights = self.weights[on_device(block.ordinal, self.weights.device)].reshape(-1, 1, 1, 1, 1)
        ops.add_rows_(self.sums, block.image, reading.gradients * weights)

    def finish(self) -> Mapping[str, Tensor]:
        return self.results(self.along_fixed_paths(self.sums), self.keep)


def quadrature(rule: str, steps: int) -> tuple[Tensor, Tensor]:
    """Nodes in [0, 1] and weights of a rule of `RULES`: float32 [steps] each."""
    if rule == "gausslegendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)  # on [-1, 1]
        nodes, weights = 0.5 * (1 + nodes), 0.5 * weights
    elif rule == "riemann_trapezoid":
        nodes = np.arange(steps) / (steps - 1)
        weights = np.full(steps, 1 / (steps - 1))
        weights[[0, -1]] /= 2
    else:
        offset = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[rule]
        nodes, weights = (np.arange(steps) + offset) / steps, np.full(steps, 1 / steps)
    return torch.from_numpy(nodes).float(), torch.from_numpy(weights).float()
