"""Coalitions for Shapley values."""

from __future__ import annotations

from math import comb

import pytest
import torch

from fastxai import ops
from fastxai.sampling import paired_coalitions, shapley_coalitions, shapley_sizes

KEYS = torch.tensor([[1, 2], [3, 4]])


def drawn(segments: int, samples: int):
    words, weights = shapley_coalitions(KEYS[:1], torch.tensor([segments]), samples)
    return ops.unpack(words[0], segments), weights[0]


@pytest.mark.parametrize("segments", [1, 2, 3, 6, 9])
def test_all_coalitions_once_and_then_no_more(segments):
    kept, weights = drawn(segments, 2**segments + 10)
    assert len(kept[: 2**segments].unique(dim=0)) == 2**segments
    assert kept[2**segments :].all()
    assert not weights[2**segments :].any()


@pytest.mark.parametrize("segments", [7, 33, 70])
def test_pairs_and_sizes(segments):
    kept, weights = drawn(segments, min(202, 2**segments))
    assert kept[0].all()
    assert not kept[1].any()
    assert torch.equal(kept[2::2], ~kept[3::2])
    sizes = kept[2:].sum(1)
    seen = sizes.bincount(minlength=segments + 1)[1:segments]
    assert seen.min() > 0
    if comb(segments, 2) > 100:
        plenty = seen[1:-1]  # sizes 1 and S - 1 may be through
        assert plenty.max() - plenty.min() <= 2, "sizes take turns"
    for size in sizes.unique().tolist():
        total = weights[2:][sizes == size].sum()
        assert total.item() == pytest.approx(1 / (size * (segments - size)))


def test_more_rows_extend_the_same_sequence():
    few, many = drawn(40, 100)[0], drawn(40, 400)[0]
    assert torch.equal(few, many[:100])
    assert shapley_sizes(40, 49).tolist() == shapley_sizes(40, 199).tolist()[:49]


def test_images_draw_for_themselves():
    words, _ = shapley_coalitions(KEYS, torch.tensor([40, 35]), 60)
    alone, _ = shapley_coalitions(KEYS[1:], torch.tensor([35]), 60)
    assert torch.equal(words[1], alone[0])
    same, _ = shapley_coalitions(KEYS, torch.tensor([35, 35]), 60)
    assert not torch.equal(same[0], same[1])


def test_paired_coins():
    counts, image, ordinal = torch.tensor([45, 20]), torch.zeros(301, dtype=torch.int64), torch.arange(301)
    kept = ops.unpack(paired_coalitions(KEYS, counts, image, ordinal), 45)
    assert kept[0].all()
    assert torch.equal(kept[1::2], ~kept[2::2])
    share = kept[1::2].double().mean(0)
    assert (share - 0.5).abs().max() < 4 * 0.5 / 150**0.5  # four standard errors of 150 fair coins
    short = ops.unpack(paired_coalitions(KEYS, counts, image + 1, ordinal), 45)
    assert not short[:, 20:].any()
