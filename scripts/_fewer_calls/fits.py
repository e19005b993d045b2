"""The library's own fits on rows of a long run."""

from __future__ import annotations

import torch
from torch import Tensor

import fastxai as fx
from fastxai import sampling, solve

LIME, SHAP = fx.Lime(), fx.KernelShap()


def error(found: Tensor, wanted: Tensor) -> float:
    """|found - wanted| / |wanted|."""
    return float((found - wanted).norm() / wanted.norm())


def plain_lime(kept: Tensor, values: Tensor) -> Tensor:
    """LIME's weighted ridge at its defaults, float64 [S]."""
    words, counts = sampling.pack(kept)[None], torch.tensor([kept.shape[1]])
    kernel = solve.cosine_kernel(kept.sum(1)[None], counts, LIME.kernel_width)
    fit = solve.weighted_ridge(words, kernel, values.float()[None, :, None], counts, LIME.alpha)
    return fit.weights[0, 0].double()


def smooth_lime(kept: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """LIME by the stand-in, and its standard errors."""
    functional = solve.LimeCoefficients(kept.shape[1], LIME.kernel_width, kept.device)
    report = solve.report_by_stand_in(kept, values.float()[:, None], functional)
    return report.weights[0], report.stderr[0]


def linear_shap(kept: Tensor, values: Tensor, weights: Tensor) -> Tensor:
    """KernelSHAP by the constrained regression, float64 [S]; rows 0 and 1 are all segments and none."""
    words, counts = sampling.pack(kept)[None], torch.tensor([kept.shape[1]])
    return solve.shapley_regression(words, weights[None], values.float()[None, :, None], counts)[0, 0].double()


def smooth_shap(kept: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """KernelSHAP by the stand-in, and its standard errors."""
    functional = solve.ShapleyValues(kept.shape[1], kept.device)
    report = solve.report_by_stand_in(kept, values.float()[:, None], functional)
    weights, gap = report.weights[0], values[0] - values[1]
    return weights + (gap - weights.sum()) / len(weights), report.stderr[0]
