"""Packed coalitions: segment s of a coalition is bit s & 31 of the int32 word s >> 5."""

from __future__ import annotations

import torch
from torch import Tensor

from fastxai.config import check_int
from fastxai.ops._checks import check_tensor


def unpack(words: Tensor, count: int) -> Tensor:
    """Packed coalitions int32 [..., W] -> bool [..., count], count in 0..32 W."""
    check_tensor("words", words, (torch.int32,), "... W", {})
    count = check_int("count", count, 0, 32 * words.shape[-1])
    shifts = torch.arange(32, dtype=torch.int32, device=words.device)
    # The shift is arithmetic; the mask keeps what matters.
    bits = (words.unsqueeze(-1) >> shifts) & 1
    return bits.flatten(-2)[..., :count].bool()
