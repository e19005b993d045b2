"""Expected Gradients: GradientSHAP's formula over a data set of baselines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from fastxai.errors import ArgumentError
from fastxai.explainers.baselines import Baselines, as_baseline
from fastxai.explainers.gradient_shap import GradientShap


@dataclass(frozen=True)
class ExpectedGradients(GradientShap):
    """Expected Gradients: the mean over `samples` of (x - b) * d score / dx at alpha x + (1 - alpha) b.

    b is drawn from the data set `baseline` and alpha uniform in [0, 1), new in every row, keyed by (seed, image, row)
    (Erion, Janizek, Sturmfels, Lundberg and Lee, "Improving performance of deep learning models with axiomatic
    attribution priors and expected gradients", 2021). It is `GradientShap` without noise and with a background that
    must be named: uint8 pictures [M, C, H, W], paths, or a folder's name. All other options are those of
    `GradientShap`; the delta costs a forward pass for each of the M baselines in every batch: "auto" leaves it out.

    Model calls: `samples` forward passes an image, each with a backward pass a target.
    """

    method: ClassVar[str] = "expected-gradients"
    samples: int = 200
    baseline: Any = None
    stdevs: float = field(default=0.0, init=False, repr=False)
    blur: float = field(default=10.0, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.baseline is None:
            raise ArgumentError("baseline must be pictures or a folder for expected-gradients, got none")
        if not isinstance(as_baseline(self.baseline), Baselines):
            raise ArgumentError(f"baseline must be pictures or a folder for expected-gradients, got {self.baseline!r}")
        super().__post_init__()
