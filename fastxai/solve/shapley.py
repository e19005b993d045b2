"""Shapley values from a weighted regression that is bound to efficiency, for all images and targets of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from fastxai import ops
from fastxai.solve.ridge import BUCKET, widen

_FLOOR = 1e-10  # of the largest eigenvalue: directions below it were not seen by any row


def shapley_regression(coalitions: Tensor, weights: Tensor, values: Tensor, counts: Tensor) -> Tensor:
    """Shapley values, [B, K, S] float32, NaN beyond an image's own segments.

    With A = sum_r w_r z_r z_r', b = sum_r w_r z_r (v_r - v(none)), Delta = v(all) - v(none):
    phi = A^-1 [b - 1 (1'A^-1 b - Delta) / (1'A^-1 1)], so that sum(phi) = Delta (Covert and Lee, "Improving
    KernelSHAP", 2021, eq. 7). Where rows are fewer than segments, the solution of least norm around Delta / S.

    coalitions int32 [B, n, W] packed, row 0 with all segments and row 1 with none; weights float64 [B, n]; values
    float32 [B, n, K]; counts int64 [B].
    """
    start, difference = values[:, 1].double(), (values[:, 0].double() - values[:, 1].double())
    moments = ops.weighted_gram(coalitions, weights, values.double() - start[:, None], counts)
    segments = moments.rhs.shape[1] - 1
    found = difference.new_full((len(counts), segments, difference.shape[1]), float("nan"))
    widths = (counts + BUCKET - 1) // BUCKET * BUCKET
    for width in widths.unique().tolist():
        chosen = (widths == width).nonzero().flatten()
        own = min(width, segments)
        gram = widen(moments.gram[chosen], own, width)[:, :-1, :-1]
        rhs = widen(moments.rhs[chosen], own, width, columns=False)[:, :-1]
        inside = torch.arange(width, device=counts.device) < counts[chosen][:, None]
        phi = _solve(gram, rhs, inside.double(), counts[chosen].double()[:, None, None], difference[chosen][:, None])
        found[chosen, :own] = phi[:, :own].masked_fill(~inside[:, :own, None], float("nan"))
    return found.transpose(1, 2).float().contiguous()


def _solve(gram: Tensor, rhs: Tensor, inside: Tensor, count: Tensor, difference: Tensor) -> Tensor:
    """In the space that efficiency leaves free: phi = Delta / S + P beta, P a projection, [B, S, K]."""
    ones = inside[:, :, None]
    even = ones * (difference / count)
    rest = rhs - gram @ even
    project = torch.diag_embed(inside) - ones @ ones.transpose(1, 2) / count
    values, vectors = torch.linalg.eigh(project @ gram @ project)
    seen = values > _FLOOR * values[:, -1:]
    inverse = torch.where(seen, 1 / torch.where(seen, values, 1.0), 0.0)
    beta = vectors @ (inverse[:, :, None] * (vectors.transpose(1, 2) @ (project @ rest)))
    solved: Tensor = even + project @ beta
    return solved
