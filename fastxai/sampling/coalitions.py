"""Coalitions: which segments one perturbed copy keeps, packed 32 to a word.

Segment s of a row is bit s & 31 of word s >> 5, in int32 words. Bits from S on are 0.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastxai import ops

STREAM = 0  # of the counter; the method is in the key


def word_count(segments: int) -> int:
    """Words that hold `segments` bits."""
    return (segments + 31) // 32


def pack(coalitions: Tensor) -> Tensor:
    """bool [..., S] -> int32 [..., W]."""
    words = word_count(coalitions.shape[-1])
    padded = torch.nn.functional.pad(coalitions.to(torch.int64), (0, words * 32 - coalitions.shape[-1]))
    bits = padded.reshape(*coalitions.shape[:-1], words, 32) << torch.arange(32, device=coalitions.device)
    return bits.sum(-1).to(torch.int32)  # wraps into the sign bit, which is bit 31


def segments_kept(words: Tensor) -> Tensor:
    """How many segments each coalition keeps: int32 [..., W] -> int64 [...]."""
    return ops.unpack(words, words.shape[-1] * 32).sum(-1)


def bernoulli_coalitions(keys: Tensor, counts: Tensor, image: Tensor, ordinal: Tensor) -> Tensor:
    """Fair coin flips per segment from the keyed generator; row 0 of every image keeps all.

    keys int64 [B, 2]; counts int64 [B] segments; image, ordinal int64 [R] -> int32 [R, W], W for the largest count.
    Row `ordinal` of an image is the same whatever other rows are asked for.
    """
    words = word_count(int(counts.max()))
    drawn = ops.random_words(keys, image, ordinal, words, STREAM)
    full = _all_kept(counts, words)[image]
    return torch.where((ordinal == 0).to(drawn.device).unsqueeze(1), full, drawn & full)


def paired_coalitions(keys: Tensor, counts: Tensor, image: Tensor, ordinal: Tensor) -> Tensor:
    """Fair coin flips in pairs: row 2 j - 1 is drawn, row 2 j keeps just what that one hides; row 0 keeps all.

    What two segments do together then cancels out of a single one's weight. Arguments and result as for
    `bernoulli_coalitions`, with draws of its own.
    """
    words = word_count(int(counts.max()))
    drawn = ops.random_words(keys, image, (ordinal + 1) // 2, words, STREAM)
    full = _all_kept(counts, words)[image]
    other = ((ordinal % 2 == 0).to(drawn.device)).unsqueeze(1)
    flipped = torch.where(other, ~drawn, drawn) & full
    return torch.where((ordinal == 0).to(drawn.device).unsqueeze(1), full, flipped)


def lime_coalitions(seed: int, counts: Tensor, samples: int) -> Tensor:
    """What the `lime` package draws: int32 [B, n, W].

    `LimeImageExplainer(random_state=seed).explain_instance(image, ...)` first draws the seed of its segmentation,
    then `randint(0, 2, n * S)` from the legacy generator, and sets row 0 to ones. Every image is drawn as the first
    of a fresh explainer, so nothing depends on the order of images.
    """
    words = word_count(int(counts.max()))
    drawn = torch.zeros(len(counts), samples, words, dtype=torch.int32)
    for index, count in enumerate(counts.tolist()):
        stream = np.random.RandomState(seed)
        stream.randint(0, high=1000)
        data = stream.randint(0, 2, samples * count).reshape(samples, count)
        data[0, :] = 1
        drawn[index, :, : word_count(count)] = pack(torch.from_numpy(data == 1))
    return drawn


def _all_kept(counts: Tensor, words: int) -> Tensor:
    """Coalitions that keep every segment: int32 [B, W]."""
    return pack(torch.arange(words * 32, device=counts.device) < counts.unsqueeze(1))
