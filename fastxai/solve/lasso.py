"""Weighted lasso on coalitions: few segments, the others exactly 0."""

from __future__ import annotations

import torch
from torch import Tensor

from fastxai import ops
from fastxai.errors import MissingExtra
from fastxai.solve.ridge import Ridge


def weighted_lasso(coalitions: Tensor, weights: Tensor, values: Tensor, counts: Tensor, alpha: float) -> Ridge:
    """argmin over beta of 1 / (2 n) sum_r w_r (y_r - b0 - x_r' beta)^2 + alpha |beta|_1, weights scaled to sum to n.

    As `sklearn.linear_model.Lasso` (which does it, to its own tolerance), and so as `captum.attr.Lime` with its
    default surrogate. Arguments and result as of `weighted_ridge`; one image and target after the other, on the CPU.
    """
    try:
        from sklearn.linear_model import Lasso
    except ImportError as error:
        raise MissingExtra("a lasso as surrogate", "interop") from error
    images, targets, segments = len(counts), values.shape[2], int(counts.max())
    coefficients = torch.full((images, targets, segments), float("nan"))
    intercept, score, local = (torch.full((images, targets), float("nan")) for _ in range(3))
    for image, count in enumerate(counts.tolist()):
        kept = ops.unpack(coalitions[image], count).cpu().double().numpy()
        weight = weights[image].cpu().double().numpy()
        for target in range(targets):
            value = values[image, :, target].cpu().double()
            if not torch.isfinite(value).all():
                continue
            fit = Lasso(alpha=alpha).fit(kept, value.numpy(), sample_weight=weight)
            coefficients[image, target, :count] = torch.from_numpy(fit.coef_)
            intercept[image, target] = float(fit.intercept_)
            score[image, target] = float(fit.score(kept, value.numpy(), sample_weight=weight))
            local[image, target] = float(fit.intercept_ + fit.coef_.sum())
    device = values.device
    return Ridge(coefficients.to(device), intercept.to(device), score.to(device), local.to(device))
