"""What a map says about each superpixel as a whole, so that maps of any origin can be compared on superpixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def segment_sums(maps: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """Sum of a map over each superpixel.

    maps float [B, H, W]; labels integer [B, H, W], below 0 for pixels of no superpixel; counts int64 [B].
    Returns float64 [B, S], S the largest count, NaN beyond an image's own.
    """
    size = int(counts.max()) if len(counts) else 0
    values = torch.where(labels >= 0, maps.double(), 0.0).flatten(1)
    sums = torch.zeros(len(maps), size, dtype=torch.float64)
    if size:
        sums.scatter_add_(1, labels.long().clamp(min=0).flatten(1), values)
    return sums.masked_fill(torch.arange(size) >= counts[:, None], float("nan"))


def weight_sums(weights: Tensor, own: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """Sums over superpixels of a method that gave weights to superpixels of its own.

    A weight counts for its superpixel as a whole: on the method's own superpixels the sums are the weights. For others,
    each weight is spread evenly over its pixels first, so that what two superpixels share counts by its area.

    weights float [B, S'], own integer [B, H, W]: the method's; labels, counts: as in `segment_sums`, whose result
    this has.
    """
    size = int(counts.max()) if len(counts) else 0
    index = own.long().clamp(min=0).flatten(1)
    inside = (own >= 0).flatten(1)
    area = torch.zeros(weights.shape, dtype=torch.float64).scatter_add_(1, index, inside.double())
    even = torch.where(area > 0, weights.double() / area, 0.0).gather(1, index)
    spread = segment_sums(torch.where(inside, even, 0.0).view(own.shape), labels, counts)
    kept = pad(weights.double(), (0, max(0, size - weights.shape[1])), value=float("nan"))[:, :size]
    same = (own == labels).flatten(1).all(1)  # image by image, so that no result hangs on its neighbours
    return torch.where(same[:, None], kept, spread)
