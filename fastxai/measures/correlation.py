"""Correlation of two vectors an image, and overlap of their largest entries."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of each row of a and b, real [B, P]: float64 [B], NaN where one of the two is constant."""
    constant = (a.amax(1) == a.amin(1)) | (b.amax(1) == b.amin(1))  # of the values themselves: a mean is rounded
    a, b = (_centred(values.double()) for values in (a, b))
    scale = (a.square().sum(1) * b.square().sum(1)).sqrt()
    return ((a * b).sum(1) / scale).clamp(-1, 1).masked_fill(constant, float("nan"))


def _centred(values: Tensor) -> Tensor:
    """Around their mean, and of size 1, so that no square is too small for a number."""
    values = values - values.mean(1, keepdim=True)
    return values / values.abs().amax(1, keepdim=True)


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation of each row of a and b, real [B, P]: float64 [B], NaN as in `pearson`."""
    return pearson(ranks(a), ranks(b))


def ranks(values: Tensor) -> Tensor:
    """Ranks from 1 along the last axis, ties at their mean rank, of real [B, P]: float32, exact below 2^23 values."""
    from scipy.stats import rankdata  # takes half a second to import

    return torch.from_numpy(rankdata(values.numpy(), axis=-1)).float()


def top_overlap(a: Tensor, b: Tensor, count: int) -> Tensor:
    """Share of the `count` largest entries of each row of a, float [B, P], that are among those of b: float64 [B].

    Of equal entries the earlier comes first. NaN where a row has no more than `count` entries: all choices are equal.
    """
    if a.shape[1] <= count:
        return torch.full((a.shape[0],), float("nan"), dtype=torch.float64)
    chosen = []
    for values in (a, b):
        best = values.sort(dim=1, descending=True, stable=True).indices[:, :count]
        chosen.append(torch.zeros_like(values, dtype=torch.bool).scatter_(1, best, True))
    return (chosen[0] & chosen[1]).sum(1).double() / count


def ragged(function: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor, counts: Tensor) -> Tensor:
    """`function` of the first counts[i] entries of each row i of a and b, [B, S] both: float64 [B]."""
    found = [function(a[i : i + 1, :count], b[i : i + 1, :count]) for i, count in enumerate(counts.tolist())]
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)
