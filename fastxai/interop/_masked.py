"""Rows for other tools: pictures in which features are replaced by a baseline, made a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fastxai import ops, sampling
from fastxai.models import Session

Rows = Callable[[int, int], Tensor]


def masked_rows(session: Session, picture: Tensor, base: Tensor, mask: Tensor, kept: Tensor) -> Rows:
    """Model inputs of rows start..stop: the picture where its feature is kept, the baseline elsewhere.

    picture and base float [1, C, H, W] of model input; mask int64 [1, C, H, W], the feature of every number; kept bool
    [n, S]. Superpixels (features that share their pixels over channels) on a baseline of one colour go through
    `ops.compose_rows`; anything else through torch.
    """
    device, colour = session.device, base[:, :, :1, :1]
    picture, base, mask, kept = (tensor.to(device) for tensor in (picture.float(), base.float(), mask, kept))
    if bool((mask == mask[:, :1]).all()) and bool((base == colour.to(device)).all()):
        words, labels = sampling.pack(kept), mask[:, 0].to(torch.int32).contiguous()
        whole, fill = picture.contiguous(), base[0, :, 0, 0].contiguous()

        def composed(start: int, stop: int) -> Tensor:
            image = torch.zeros(stop - start, dtype=torch.int64)
            return ops.compose_rows(whole, labels, words[start:stop], image, fill, mean=(), std=(), dtype=session.dtype)

        return composed

    def chosen(start: int, stop: int) -> Tensor:
        shown = kept[start:stop, mask[0].flatten()].reshape(stop - start, *mask.shape[1:])
        return torch.where(shown, picture, base)

    return chosen
