"""Captum's GradientShap with its draws handed in and its formula cut at the one gradient call.

Stock Captum draws from global streams, keeps every sample of a batch alive at once and explains one target a call. The
subclass keeps the signature and the formula; an engine that owns the loop calls the two halves of the formula around
its own gradient call, and `attribute` itself is the same halves around `gradient_func`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from captum.attr import GradientShap as CaptumGradientShap
from torch import Tensor

from fastxai.errors import ArgumentError, ArgumentTypeError

Draws = Callable[[int, int, int], tuple[Tensor, Tensor]]


class KeyedGradientShap(CaptumGradientShap):  # type: ignore[misc]  # captum ships no types
    """GradientSHAP: the mean over samples of (x~ - b) * grad F(alpha x~ + (1 - alpha) b).

    (Lundberg and Lee, "A Unified Approach to Interpreting Model Predictions", 2017; Erion et al., "Improving
    performance of deep learning models with axiomatic attribution priors and expected gradients", 2021; the form is
    that of `captum.attr.GradientShap`.)

    forward_func: model inputs [R, C, H, W] -> scores [R, classes]. draws(batch, n_samples, baselines) -> alpha
    [batch * n_samples] in [0, 1) and baseline index [batch * n_samples], samples of one image side by side. The
    attribute `gradient_func` is Captum's own extension point.
    """

    def __init__(self, forward_func: Callable[..., Any], draws: Draws, multiply_by_inputs: bool = True) -> None:
        super().__init__(forward_func, multiply_by_inputs)
        self.draws = draws

    @staticmethod
    def points(inputs: Tensor, baselines: Tensor, alpha: Tensor) -> Tensor:
        """Path points alpha x + (1 - alpha) b: [R, C, H, W], [R or 1, C, H, W], [R] -> [R, C, H, W]."""
        share = alpha.reshape(-1, 1, 1, 1)
        return (share * inputs).add_((1.0 - share) * baselines)  # a fused product would round otherwise than Captum

    @staticmethod
    def contributions(inputs: Tensor, baselines: Tensor, gradients: Tensor) -> Tensor:
        """What each row adds: (x - b) * gradient, [R, K, C, H, W] for gradients of K targets."""
        return (inputs - baselines).unsqueeze(1) * gradients

    def attribute(
        self,
        inputs: Tensor,
        baselines: Tensor,
        n_samples: int = 5,
        stdevs: float = 0.0,
        target: Any = None,
        additional_forward_args: Any = None,
        return_convergence_delta: bool = False,
    ) -> Any:
        """Captum's `GradientShap.attribute` for one input tensor, under the given draws.

        inputs [B, C, H, W], baselines [M, C, H, W] -> attributions [B, C, H, W], and with return_convergence_delta the
        delta [B * n_samples] of each sample. stdevs must be 0: noise is drawn by the engine, not here.
        """
        if not isinstance(inputs, Tensor) or not isinstance(baselines, Tensor):
            raise ArgumentTypeError("inputs and baselines must be one tensor each")
        if stdevs != 0.0:
            raise ArgumentError(f"stdevs must be 0 here, got {stdevs}: use fastxai.GradientShap(stdevs=...)")
        alpha, index = self.draws(len(inputs), n_samples, len(baselines))
        rows, bases = inputs.repeat_interleave(n_samples, 0), baselines[index]
        target = _repeated(target, n_samples)
        points = self.points(rows, bases, alpha.to(rows.dtype)).requires_grad_()
        (gradients,) = self.gradient_func(self.forward_func, (points,), target, additional_forward_args)
        parts = gradients
        if self.multiplies_by_inputs:
            parts = self.contributions(rows, bases, gradients.unsqueeze(1)).squeeze(1)
        attributions = parts.reshape(len(inputs), n_samples, *parts.shape[1:]).mean(1)
        if not return_convergence_delta:
            return attributions
        delta = self.compute_convergence_delta(
            parts, bases, rows, target=target, additional_forward_args=additional_forward_args
        )
        return attributions, delta


def _repeated(target: Any, times: int) -> Any:
    """One target per image -> one per row, in the forms that Captum takes."""
    if isinstance(target, Tensor):
        return target.repeat_interleave(times) if target.numel() > 1 else target
    return [entry for entry in target for _ in range(times)] if isinstance(target, list) else target
