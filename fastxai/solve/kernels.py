"""How much a perturbed copy counts in the fit."""

from __future__ import annotations

from torch import Tensor


def cosine_kernel(kept: Tensor, counts: Tensor, width: float) -> Tensor:
    """LIME's weight of a row: sqrt(exp(-d^2 / width^2)), d the cosine distance of its coalition from all-ones.

    With k of S segments kept, d = 1 - sqrt(k / S), and 1 for the empty coalition. kept int64 [B, n], counts int64 [B]
    -> float64 [B, n]. (Ribeiro, Singh and Guestrin, "Why Should I Trust You?", 2016; constants of the `lime` package.)
    """
    distance = 1 - (kept.double() / counts.double().unsqueeze(1)).sqrt()
    return (-(distance**2) / width**2).exp().sqrt()
