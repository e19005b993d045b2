"""Coalitions for Shapley values: in pairs z, 1 - z, sizes spread evenly, small sizes without repeats."""

from __future__ import annotations

import itertools
from functools import lru_cache
from math import comb

import numpy as np
import torch
from torch import Tensor

from fastxai import ops
from fastxai.sampling.coalitions import pack, word_count

_STREAM, _ORDERS = 1, 2  # of the counter: sets of many, and the orders of the sizes that have few
_LISTED = 1 << 16  # sets of a size: up to so many are listed and taken in random order, each once


def shapley_sizes(segments: int, pairs: int) -> np.ndarray:
    """Sizes of the smaller halves of the first `pairs` pairs: int64 [P], P <= pairs where all coalitions are through.

    Leverage scores of the Shapley regression are the same for all sizes (Musco and Witter, "Provably Accurate Shapley
    Value Estimation via Leverage Score Sampling", 2024), so sizes take turns until one has given all of its sets. In
    place of random sizes, every size is as many times among the first pairs as any other that has sets left; so more
    pairs extend the same sequence.
    """
    sizes = range(1, segments // 2 + 1)
    left = {size: _pairs_of(segments, size) for size in sizes}
    share = {size: 1.0 if 2 * size == segments else 2.0 for size in sizes}  # sizes that a pair stands for
    # The k-th pair of a size has its turn at (k + 1/2) / share, as in Bresenham's lines; ties go to smaller sizes.
    turns = sorted(((k + 0.5) / share[size], size) for size in sizes for k in range(int(min(left[size], pairs))))
    return np.array([size for _, size in turns[:pairs]], dtype=np.int64)


def shapley_coalitions(keys: Tensor, counts: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """The first `samples` coalitions of every image for Shapley values, and their weights.

    keys int64 [B, 2]; counts int64 [B] segments -> int32 [B, n, W] packed, float64 [B, n]. Row 0 keeps all segments,
    row 1 none, both of weight 0: they are met exactly, not on average. Then come pairs z, 1 - z. A size s has in all
    the weight that the Shapley kernel gives it, 1 / (s (S - s)), evenly on its rows. Where an image has fewer
    coalitions than `samples`, row 0 is repeated with weight 0.
    """
    words = word_count(int(counts.max()))
    coalitions = torch.zeros(len(counts), samples, words, dtype=torch.int32)
    weights = torch.zeros(len(counts), samples, dtype=torch.float64)
    for index, count in enumerate(counts.tolist()):
        kept = np.zeros((samples, count), dtype=bool)
        kept[0] = True
        sizes = shapley_sizes(count, (samples - 1) // 2)
        drawn = _draw(keys[index].cpu(), count, sizes)
        both = np.stack([drawn, ~drawn], axis=1).reshape(-1, count)[: samples - 2]
        kept[2 : 2 + len(both)] = both
        kept[2 + len(both) :] = True
        each = both.sum(1)
        times = np.bincount(each, minlength=count + 1)
        weights[index, 2 : 2 + len(both)] = torch.from_numpy(1.0 / (each * (count - each) * times[each]))
        coalitions[index, :, : word_count(count)] = pack(torch.from_numpy(kept))
    return coalitions.to(keys.device), weights.to(keys.device)


def _draw(key: Tensor, segments: int, sizes: np.ndarray) -> np.ndarray:
    """A coalition of each of the sizes, bool [P, S]."""
    drawn = np.zeros((len(sizes), segments), dtype=bool)
    for size in np.unique(sizes).tolist():
        places = np.flatnonzero(sizes == size)
        if _pairs_of(segments, size) <= _LISTED:
            listed = _all_of(segments, size)
            order = _random(key, np.array([size]), len(listed), _ORDERS)[0].argsort(kind="stable")
            members = listed[order[: len(places)]]
        else:
            # Sets of so many that one hardly comes twice: the segments with the smallest of S random words.
            members = _random(key, places, segments, _STREAM).argsort(axis=1, kind="stable")[:, :size]
        rows = np.zeros((len(places), segments), dtype=bool)
        np.put_along_axis(rows, members, True, axis=1)
        drawn[places] = rows
    return drawn


def _random(key: Tensor, ordinal: np.ndarray, words: int, stream: int) -> np.ndarray:
    image = torch.zeros(len(ordinal), dtype=torch.int64)
    found: np.ndarray = ops.random_words(key[None], image, torch.from_numpy(ordinal), words, stream).numpy()
    return found


def _pairs_of(segments: int, size: int) -> int:
    """Pairs z, 1 - z whose smaller half has that size."""
    return comb(segments, size) // (2 if 2 * size == segments else 1)


@lru_cache(maxsize=64)
def _all_of(segments: int, size: int) -> np.ndarray:
    """Every set of that size, int64 [N, size]; of two halves of equal size the one with segment 0."""
    if 2 * size == segments:
        rest = itertools.combinations(range(1, segments), size - 1)
        return np.array([(0, *members) for members in rest], dtype=np.int64)
    return np.array(list(itertools.combinations(range(segments), size)), dtype=np.int64)
