"""Coalitions, weights and scores -> the moments of a weighted least-squares fit, for many images at once.

    gram[i, j] = sum_r w_r x_ri x_rj      rhs[i, k] = sum_r w_r x_ri y_rk      total[k] = sum_r w_r y_rk^2

x are the bits of a coalition and a last 1. Dense rows are never made: the fast forms read packed bits. They add in one
fixed order (four rows make a partial sum, partial sums are added in row order), so they agree in every bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastxai.errors import ArgumentError
from fastxai.ops import _cuda
from fastxai.ops._bits import unpack
from fastxai.ops._checks import check_devices, check_tensor, choose, default_for
from fastxai.ops._numba import ParallelLoop, prange

TILE = 32  # of the CUDA kernel: segments of one word by segments of another


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
    counts[b] bits, zeros up to S, then 1. Everything is summed in float64 in an order that the rows alone decide, so
    that an image's numbers have the same bits whatever else is in the batch, however many threads run, and on the CPU
    as on an NVIDIA GPU (library matrix products promise none of that).
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
    chosen = choose(implementation, default_for(device, cpu="numba", cuda="cuda"), ("torch", "numba", "cuda"))
    if chosen == "torch":
        return _torch(coalitions, weights.double(), values.double(), limits)
    batch, width, targets = sizes["B"], max(limits) + 1, sizes["K"]
    shapes = ((batch, width, width), (batch, width, targets), (batch, targets))
    inputs = (coalitions.contiguous(), weights.contiguous(), values.contiguous(), counts.to(device).contiguous())
    if chosen == "numba":
        found = Moments(*(torch.empty(shape, dtype=torch.float64) for shape in shapes))
        outputs = (found.gram, found.rhs, found.total)
        _sum(*(tensor.numpy() for tensor in (*outputs, *inputs)))
    else:
        found = Moments(*(torch.zeros(shape, dtype=torch.float64, device=device) for shape in shapes))
        _kernel(found, inputs[0], inputs[1].double(), inputs[2].double(), inputs[3])
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


def _kernel(found: Moments, coalitions: Tensor, weights: Tensor, values: Tensor, counts: Tensor) -> None:
    (batch, rows, words), (_, width, targets) = coalitions.shape, found.rhs.shape
    used = -(-(width - 1) // TILE)  # words that hold a segment
    extra = -(-(1 + 2 * targets) // TILE)
    _cuda.launch(
        "weighted_gram",
        "weighted_gram",
        defines={},
        grid=(batch, used + extra, used + 1),
        block=(TILE, TILE // 4, 1),
        arguments=(
            found.gram,
            found.rhs,
            found.total,
            coalitions,
            weights,
            values,
            counts,
            np.int32(rows),
            np.int32(words),
            np.int32(width - 1),
            np.int32(targets),
        ),
    )


@ParallelLoop
def _sum(gram, rhs, total, coalitions, weights, values, counts):  # type: ignore[no-untyped-def]
    """Of every four rows, the 16 sums of their subsets; then each segment adds the one of the rows that keep it.

    That is a quarter of the additions of row after row (the "four Russians"), and no multiplications. Columns of the
    terms w * (x, 1, y): the segments, the constant, the targets, padding to whole vectors.
    """
    size, targets = rhs.shape[1], rhs.shape[2]
    rows = coalitions.shape[1]
    one = np.uint64(1)
    for b in prange(coalitions.shape[0]):
        gram[b], rhs[b], total[b] = 0.0, 0.0, 0.0
        count = counts[b]
        width = (count + 1 + targets + 7) // 8 * 8
        own = np.zeros((count + 1, width))
        sums = np.zeros((2, 16, width))  # two fours at a time: fewer passes over `own`
        subset = np.zeros((2, count + 1), np.uint64)  # which of the four rows keep a segment
        squares = np.zeros(targets)
        for start in range(0, rows, 8):
            subset[:] = 0
            for half in range(2):
                squares[:] = 0.0
                for t in range(4):
                    r = start + 4 * half + t
                    term, place = sums[half, 1 << t], np.uint64(t)
                    if r >= rows:
                        term[:] = 0.0
                        continue
                    w = np.float64(weights[b, r])
                    for first in range(0, count, 32):
                        bits = np.uint64(np.uint32(coalitions[b, r, first >> 5]))
                        kept, part = subset[half, first : first + 32], term[first : min(first + 32, count)]
                        for s in range(part.shape[0]):
                            x = (bits >> np.uint64(s)) & one
                            kept[s] |= x << place
                            part[s] = w if x else 0.0
                    subset[half, count] |= one << place
                    term[count] = w
                    for k in range(targets):
                        y = np.float64(values[b, r, k])
                        term[count + 1 + k] = w * y
                        squares[k] += w * y * y
                for k in range(targets):
                    total[b, k] += squares[k]
                for top in range(1, 4):
                    for rest in range(1, 1 << top):
                        into, low, high = sums[half, (1 << top) + rest], sums[half, rest], sums[half, 1 << top]
                        for j in range(into.shape[0]):
                            into[j] = low[j] + high[j]
            for i in range(count + 1):
                first = i // 8 * 8  # the upper triangle, from a whole vector on
                into, low, high = own[i, first:], sums[0, subset[0, i], first:], sums[1, subset[1, i], first:]
                for j in range(into.shape[0]):
                    into[j] = into[j] + low[j] + high[j]
        for i in range(count + 1):
            row = i if i < count else size - 1
            for j in range(i, count + 1):
                column = j if j < count else size - 1
                gram[b, row, column] = own[i, j]
                gram[b, column, row] = own[i, j]
            for k in range(targets):
                rhs[b, row, k] = own[i, count + 1 + k]
