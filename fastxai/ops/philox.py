"""Keyed random numbers: Philox4x32-10, the same integers on every device, in any order, for any batch.

Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). A row's numbers depend on its
image's key and on its own ordinal, nothing else.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from fastxai.config import check_int
from fastxai.errors import ArgumentError
from fastxai.ops import _cuda
from fastxai.ops._checks import check_devices, check_index, check_keys, check_tensor, choose, default_for
from fastxai.ops._numba import ParallelLoop, prange

ROUNDS = 10
MULTIPLIER_0, MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85  # the key's step from round to round
LOW = 0xFFFFFFFF


def random_words(
    keys: Tensor, image: Tensor, ordinal: Tensor, words: int, stream: int, *, implementation: str | None = None
) -> Tensor:
    """`words` random 32-bit words for every row.

    keys int64 [B, 2]: two words in 0..2^32-1 per image; image int64 [R] in 0..B-1; ordinal int64 [R] >= 0 (both may
    be on the CPU while the keys are on a GPU, which spares waiting for the check of their values); stream in
    0..2^32-1 tells apart what is drawn for different uses. Returns int32 [R, words] (bit patterns): word
    4 j + i is output i of Philox4x32-10 with key keys[image] and counter (j, ordinal low, ordinal high, stream), so
    asking for more words, or more rows, extends the same sequence.
    """
    sizes: dict[str, int] = {}
    check_tensor("keys", keys, (torch.int64,), "B 2", {})
    check_tensor("image", image, (torch.int64,), "R", sizes)
    check_tensor("ordinal", ordinal, (torch.int64,), "R", sizes)
    device = check_devices(keys=keys)
    for name, tensor in (("image", image), ("ordinal", ordinal)):
        if tensor.device.type != "cpu":
            check_devices(keys=keys, **{name: tensor})
    words = check_int("words", words, 0, 2**31 - 4)
    stream = check_int("stream", stream, 0, LOW)
    check_keys(keys)
    check_index("image", image, keys.shape[0])
    check_index("ordinal", ordinal, 2**63 - 1)
    image, ordinal = (tensor.to(device, non_blocking=True) for tensor in (image, ordinal))
    chosen = choose(implementation, default_for(device, cpu="numba", cuda="cuda"), ("torch", "numba", "cuda"))
    if chosen == "torch":
        return _torch(keys[image], ordinal, words, stream)

    out = torch.empty(image.shape[0], words, dtype=torch.int32, device=device)
    if not out.numel():
        return out
    inputs = [tensor.contiguous() for tensor in (keys, image, ordinal)]
    if chosen == "numba":
        _fill(out.numpy(), *(tensor.numpy() for tensor in inputs), stream)
        return out
    blocks, threads = out.shape[0] * (-(-words // 4)), 256
    _cuda.launch(
        "philox",
        "philox",
        defines={},
        grid=(-(-blocks // threads), 1, 1),
        block=(threads, 1, 1),
        arguments=(out, *inputs, np.int64(out.shape[0]), np.int32(words), np.uint32(stream)),
    )
    return out


def uniforms(words: Tensor) -> Tensor:
    """Random words int32 [...] -> float32 [...] uniform on [0, 1): the top 24 bits times 2^-24, exactly."""
    check_tensor("words", words, (torch.int32,), "...", {})
    return _top24(words).float() * 2.0**-24


def normals(words: Tensor) -> Tensor:
    """Random words int32 [..., 2 n] -> float32 [..., 2 n] standard normal (Box and Muller 1958).

    Words 2 i and 2 i + 1 make numbers 2 i and 2 i + 1: r cos a and r sin a, with r = sqrt(-2 log u), u in (0, 1]
    and a = 2 pi v, v in [0, 1). At most 5.8 in size. Worked out in float64 and rounded, so that the loops torch
    picks by layout (their last bits differ) give the same float32.
    """
    check_tensor("words", words, (torch.int32,), "... n", {})
    if words.shape[-1] % 2:
        raise ArgumentError(f"words must come in pairs, got {words.shape[-1]} on the last axis")
    pairs = _top24(words).double().unflatten(-1, (-1, 2))
    radius = ((pairs[..., 0] + 1) * 2.0**-24).log().mul(-2).sqrt()
    angle = pairs[..., 1] * (2.0 * math.pi * 2.0**-24)
    return torch.stack((radius * angle.cos(), radius * angle.sin()), -1).flatten(-2).float()


def _top24(words: Tensor) -> Tensor:
    return (words >> 8) & 0xFFFFFF


def _torch(key: Tensor, ordinal: Tensor, words: int, stream: int) -> Tensor:
    """The reference. int64 holds the words; a product wraps at 2^64, and both its halves come out right."""
    blocks = -(-words // 4)
    shape = (ordinal.shape[0], blocks)
    c0 = torch.arange(blocks, device=key.device).expand(shape)
    c1 = (ordinal & LOW)[:, None].expand(shape)
    c2 = ((ordinal >> 32) & LOW)[:, None].expand(shape)
    c3 = torch.full(shape, stream, device=key.device)
    k0, k1 = key[:, :1], key[:, 1:]
    for _ in range(ROUNDS):
        p0, p1 = c0 * MULTIPLIER_0, c2 * MULTIPLIER_1
        c0, c1, c2, c3 = ((p1 >> 32) & LOW) ^ c1 ^ k0, p1 & LOW, ((p0 >> 32) & LOW) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + WEYL_0) & LOW, (k1 + WEYL_1) & LOW
    stacked = torch.stack((c0, c1, c2, c3), -1).flatten(1)[:, :words]
    # The upper half of the unsigned range becomes negative: the same bits.
    return (stacked - ((stacked >> 31) << 32)).to(torch.int32)


@ParallelLoop
def _fill(out, keys, image, ordinal, stream):  # type: ignore[no-untyped-def]
    """out int32 [R, words]; the others as in `random_words`."""
    rows, words = out.shape
    blocks = (words + 3) // 4
    mask, shift = np.uint64(LOW), np.uint64(32)
    for index in prange(rows * blocks):
        r, j = index // blocks, index % blocks
        c0, c1 = np.uint64(j), np.uint64(ordinal[r]) & mask
        c2, c3 = np.uint64(ordinal[r]) >> shift, np.uint64(stream)
        k0, k1 = np.uint64(keys[image[r], 0]), np.uint64(keys[image[r], 1])
        for _ in range(ROUNDS):
            p0, p1 = c0 * np.uint64(MULTIPLIER_0), c2 * np.uint64(MULTIPLIER_1)
            c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ k0, p1 & mask, (p0 >> shift) ^ c3 ^ k1, p0 & mask
            k0, k1 = (k0 + np.uint64(WEYL_0)) & mask, (k1 + np.uint64(WEYL_1)) & mask
        first = 4 * j
        out[r, first] = np.int32(np.uint32(c0))
        if first + 1 < words:
            out[r, first + 1] = np.int32(np.uint32(c1))
        if first + 2 < words:
            out[r, first + 2] = np.int32(np.uint32(c2))
        if first + 3 < words:
            out[r, first + 3] = np.int32(np.uint32(c3))
