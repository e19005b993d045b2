"""Coalitions, weights and scores -> the moments of a weighted least-squares fit, for many images at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastxai.errors import ArgumentError
from fastxai.ops._bits import unpack
from fastxai.ops._checks import check_devices, check_tensor, choose, default_for
from fastxai.ops._numba import ParallelLoop, prange


@dataclass(frozen=True)
class Moments:
    """gram float64 [B, S+1, S+1] = X' W X; rhs float64 [B, S+1, K] = X' W Y; total float64 [B, K] = sum w y^2.

    The last column of X is the constant 1, so gram[:, -1, -1] is the sum of the weights.
    """

    gram: Tensor
    rhs: Tensor
    total: Tensor


def weighted_gram(
    coalitions: Tensor, weights: Tensor, values: Tensor, counts: Tensor, *, implementation: str | None = None
) -> Moments:
    """The normal equations of a linear fit on coalitions, with a constant.

    coalitions int32 [B, n, W] packed bits; weights and values float32 or float64 [B, n] and [B, n, K]; counts
    int64 [B]: segments of each image. With S = max(counts), a row of image b's design matrix is its first
    counts[b] bits, zeros up to S, then 1. Everything is summed in float64; on the CPU row by row, so that an
    image's numbers have the same bits whatever else is in the batch and however many threads run (library matrix
    products promise neither).
    """
    sizes: dict[str, int] = {}
    check_tensor("coalitions", coalitions, (torch.int32,), "B n words", sizes)
    check_tensor("weights", weights, (torch.float32, torch.float64), "B n", sizes)
    check_tensor("values", values, (torch.float32, torch.float64), "B n K", sizes)
    check_tensor("counts", counts, (torch.int64,), "B", sizes)
    device = check_devices(coalitions=coalitions, weights=weights, values=values)
    limits = counts.tolist()
    if not limits or min(limits) < 1 or max(limits) > 32 * sizes["words"]:
        raise ArgumentError(
            f"counts must be between 1 and {32 * sizes['words']}, the bits of a coalition, for at least one image, "
            f"got {limits}"
        )
    chosen = choose(implementation, default_for(device, cpu="numba"), ("torch", "numba"))
    if chosen == "torch":
        return _torch(coalitions, weights.double(), values.double(), limits)
    width, targets = max(limits) + 1, sizes["K"]
    found = Moments(
        *(torch.zeros(sizes["B"], *rest).double() for rest in ((width, width), (width, targets), (targets,)))
    )
    _sum(
        found.gram.numpy(),
        found.rhs.numpy(),
        found.total.numpy(),
        coalitions.contiguous().numpy(),
        weights.double().contiguous().numpy(),
        values.double().contiguous().numpy(),
        counts.cpu().contiguous().numpy(),
    )
    return found


def _torch(coalitions: Tensor, weights: Tensor, values: Tensor, limits: list[int]) -> Moments:
    """The reference: matrix products on dense float64 rows."""
    most = max(limits)
    design = unpack(coalitions, most)
    own = torch.arange(most, device=design.device) < torch.tensor(limits, device=design.device)[:, None]
    design = torch.nn.functional.pad((design & own[:, None]).double(), (0, 1), value=1.0)  # [B, n, S+1]
    weighted = design * weights[..., None]
    return Moments(
        gram=design.transpose(1, 2) @ weighted,
        rhs=weighted.transpose(1, 2) @ values,
        total=(weights[..., None] * values * values).sum(1),
    )


@ParallelLoop
def _sum(gram, rhs, total, coalitions, weights, values, counts):  # type: ignore[no-untyped-def]
    """Adds one row after the other to the upper triangle, at the bits that are set; then mirrors it."""
    size, targets = rhs.shape[1], rhs.shape[2]
    for b in prange(coalitions.shape[0]):
        kept = np.empty(size, np.int64)
        for r in range(coalitions.shape[1]):
            w = weights[b, r]
            n = 0
            for s in range(counts[b]):
                if (coalitions[b, r, s >> 5] >> (s & 31)) & 1:
                    kept[n] = s
                    n += 1
            kept[n] = size - 1
            n += 1
            for i in range(n):
                for j in range(i, n):
                    gram[b, kept[i], kept[j]] += w
            for k in range(targets):
                y = values[b, r, k]
                total[b, k] += w * y * y
                for i in range(n):
                    rhs[b, kept[i], k] += w * y
        for i in range(size):
            for j in range(i):
                gram[b, i, j] = gram[b, j, i]
