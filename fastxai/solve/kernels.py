"""How much a perturbed copy counts in the fit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_SMALL = 1e-8  # the least length of a vector, as in `torch.nn.CosineSimilarity`


def cosine_kernel(kept: Tensor, counts: Tensor, width: float) -> Tensor:
    """LIME's weight of a row: sqrt(exp(-d^2 / width^2)), d the cosine distance of its coalition from all-ones.

    With k of S segments kept, d = 1 - sqrt(k / S), and 1 for the empty coalition. kept int64 [B, n], counts int64 [B]
    -> float64 [B, n]. (Ribeiro, Singh and Guestrin, "Why Should I Trust You?", 2016; constants of the `lime` package.)
    """
    distance = 1 - (kept.double() / counts.double().unsqueeze(1)).sqrt()
    return (-(distance**2) / width**2).exp().sqrt()


@dataclass(frozen=True)
class SegmentMoments:
    """Products of pictures x and what they show where hidden, b, summed over each segment: float64 [B, S].

    own: of x with itself; cross: of x with b; other: of b with itself.
    """

    own: Tensor
    cross: Tensor
    other: Tensor

    @classmethod
    def of(cls, pictures: Tensor, hidden: Tensor, mask: Tensor, segments: int) -> SegmentMoments:
        """From x and b [B, C, H, W] and the segment of every number, int64 [B, C, H, W] in 0..segments-1."""
        x, b, index = pictures.double().flatten(1), hidden.double().flatten(1), mask.flatten(1)
        empty = x.new_zeros(len(x), segments)
        return cls(*(empty.scatter_add(1, index, product) for product in (x * x, x * b, b * b)))


def image_kernel(kept: Tensor, moments: SegmentMoments, width: float) -> Tensor:
    """Weight of a row by its picture: exp(-d^2 / (2 width^2)), d the cosine distance of the perturbed picture from x.

    Perturbed pictures are never looked at: lengths and products are sums over segments. kept bool [B, n, S] -> float64
    [B, n]. (`captum.attr.Lime`, with the default of its `get_exp_kernel_similarity_function`, where width is 1.)
    """
    kept = kept.double()
    along = _over_segments(kept, moments.own, moments.cross)
    length = _over_segments(kept, moments.own, moments.other).sqrt().clamp_min(_SMALL)
    whole = moments.own.sum(1, keepdim=True).sqrt().clamp_min(_SMALL)
    distance = 1 - along / (length * whole)
    return (-(distance**2) / (2 * width**2)).exp()


def end_point_weights(kept: Tensor, ends: float) -> Tensor:
    """Weight 1 of every row but those that keep all segments or none, which weigh `ends`.

    The least-squares fit of rows whose sizes were drawn by the Shapley kernel is KernelSHAP; large weights nearly bind
    it to both ends (`captum.attr.KernelShap`, with 1e6). kept bool [B, n, S] -> float64 [B, n].
    """
    sizes = kept.sum(-1)
    at_end = (sizes == 0) | (sizes == kept.shape[-1])
    return torch.where(at_end, ends, 1.0).double()


def _over_segments(kept: Tensor, shown: Tensor, hidden: Tensor) -> Tensor:
    """Sums over segments of `shown` where they are kept and of `hidden` elsewhere: [B, n]."""
    found: Tensor = (kept @ (shown - hidden)[..., None])[..., 0] + hidden.sum(1, keepdim=True)
    return found
