"""Weighted ridge regression on coalitions, for all images and all targets of a batch at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastxai import ops

BUCKET = 16  # systems are padded to a multiple of this size, a function of their own size alone


@dataclass(frozen=True)
class Ridge:
    """A fit per image and target.

    weights float32 [B, K, S], NaN beyond an image's own segments; intercept, score (weighted R^2) and local_pred (the
    fit's value at all-ones) float32 [B, K].
    """

    weights: Tensor
    intercept: Tensor
    score: Tensor
    local_pred: Tensor


def weighted_ridge(coalitions: Tensor, weights: Tensor, values: Tensor, counts: Tensor, alpha: float) -> Ridge:
    """Ridge with an unpenalised intercept and sample weights, as `sklearn.linear_model.Ridge` computes it.

    beta = (X~' W X~ + alpha I)^-1 X~' W y~, with X~ and y~ centred by their weighted means; intercept = ybar - xbar'
    beta; score = 1 - sum w (y - yhat)^2 / sum w (y - ybar)^2. alpha is not scaled by sum w.

    coalitions int32 [B, n, W] packed; weights float64 [B, n]; values float32 [B, n, K]; counts int64 [B]. Products and
    factorisation in float64. An image's result does not depend on the others: it is solved at a size that follows
    from its own count. A NaN in an image's values gives NaN for that image and target alone.
    """
    base = values[:, 0].double()  # shifting by one reading keeps the centred sums exact to rounding
    moments = ops.weighted_gram(coalitions, weights, values.double() - base[:, None], counts)
    images, targets = base.shape
    segments = moments.rhs.shape[1] - 1
    coefficients = base.new_full((images, segments, targets), float("nan"))
    intercept, score, local = (torch.empty_like(base) for _ in range(3))
    widths = (counts + BUCKET - 1) // BUCKET * BUCKET
    for width in widths.unique().tolist():
        chosen = (widths == width).nonzero().flatten()
        own = min(width, segments)
        gram = widen(moments.gram[chosen], own, width)
        rhs = widen(moments.rhs[chosen], own, width, columns=False)
        beta, offset, score[chosen] = _fit(gram, rhs, moments.total[chosen], counts[chosen], alpha)
        intercept[chosen] = offset + base[chosen]
        local[chosen] = intercept[chosen] + beta.sum(1)
        outside = torch.arange(own, device=counts.device) >= counts[chosen][:, None]
        coefficients[chosen, :own] = beta[:, :own].masked_fill(outside[:, :, None], float("nan"))
    return Ridge(coefficients.transpose(1, 2).float().contiguous(), intercept.float(), score.float(), local.float())


def widen(moments: Tensor, own: int, width: int, *, columns: bool = True) -> Tensor:
    """Raw moments [B, S + 1, ...] at `width` segments, the constant's row (and column) last."""
    rows = torch.nn.functional.pad(moments[:, :own], (0, 0, 0, width - own))
    moments = torch.cat([rows, moments[:, -1:]], dim=1)
    if not columns:
        return moments
    return torch.cat([torch.nn.functional.pad(moments[:, :, :own], (0, width - own)), moments[:, :, -1:]], dim=2)


def _fit(gram: Tensor, rhs: Tensor, squares: Tensor, counts: Tensor, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """Centre, factorise, score: beta [B, S, K], intercept [B, K], weighted R^2 [B, K]."""
    total = gram[:, -1, -1]  # sum w
    xbar, ybar = gram[:, :-1, -1] / total[:, None], rhs[:, -1] / total[:, None]
    spread_x = gram[:, :-1, :-1] - total[:, None, None] * xbar[:, :, None] * xbar[:, None, :]
    spread_xy = rhs[:, :-1] - total[:, None, None] * xbar[:, :, None] * ybar[:, None, :]
    spread_y = squares - total[:, None] * ybar**2

    # Beyond an image's own segments the system is the identity, which leaves its own part alone.
    inside = torch.arange(spread_x.shape[1], device=counts.device) < counts[:, None]
    system = spread_x + torch.diag_embed(torch.where(inside, alpha, 1.0).to(spread_x.dtype))
    beta = torch.cholesky_solve(spread_xy, torch.linalg.cholesky_ex(system).L)

    explained = (beta * (2 * spread_xy - torch.bmm(spread_x, beta))).sum(1)
    residual = (spread_y - explained).clamp_min(0)
    # As sklearn's r2_score: values that do not vary are fitted perfectly. The yardstick is the rounding of the sums.
    constant = spread_y <= 1e-14 * squares.clamp_min(1e-300)
    score = torch.where(constant, 1.0, 1 - residual / spread_y)
    return beta, ybar - (xbar[:, :, None] * beta).sum(1), score
