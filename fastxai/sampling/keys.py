"""Keys of the counter-based generator."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def stream_keys(seed: int, digests: Sequence[str], method: str) -> Tensor:
    """One Philox key per image for one method: int64 [B, 2], each entry a 32-bit word.

    The key is BLAKE2b-64 of seed, image digest and method, so the same picture draws the same numbers in any run,
    batch or worker, and two methods (or images, or seeds) share nothing.
    """
    keys = []
    for digest in digests:
        hashed = hashlib.blake2b(f"{seed}\0{digest}\0{method}".encode(), digest_size=8).digest()
        keys.append([int.from_bytes(hashed[:4], "little"), int.from_bytes(hashed[4:], "little")])
    return torch.tensor(keys, dtype=torch.int64).reshape(-1, 2)
