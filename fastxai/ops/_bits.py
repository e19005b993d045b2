"""Packed coalitions: segment s of a coalition is bit s & 31 of the int32 word s >> 5."""

from __future__ import annotations

import torch
from torch import Tensor


def unpack(words: Tensor, count: int) -> Tensor:
    """Packed coalitions int32 [..., W] -> bool [..., count], count <= 32 W."""
    shifts = torch.arange(32, dtype=torch.int32, device=words.device)
    # The shift is arithmetic; the mask keeps what matters.
    bits = (words.unsqueeze(-1) >> shifts) & 1
    return bits.flatten(-2)[..., :count].bool()
