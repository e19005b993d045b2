"""Sums over superpixels against a loop, and what they conserve."""

from __future__ import annotations

import math

import numpy as np
import torch

from fastxai.measures.segment_sums import segment_sums, weight_sums


def labelled(seed: int, counts: list[int]) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.stack([torch.from_numpy(rng.integers(0, n, (7, 9), dtype=np.int32)) for n in counts])


def test_sums_are_those_of_a_loop() -> None:
    counts = [6, 1, 4]
    labels, maps = labelled(1, counts), torch.randn(3, 7, 9, generator=torch.Generator().manual_seed(2))
    labels[0, 0, :3] = -1  # no superpixel
    found = segment_sums(maps, labels, torch.tensor(counts))
    assert found.shape == (3, 6)
    for image, count in enumerate(counts):
        for segment in range(count):
            wanted = math.fsum(maps[image][labels[image] == segment].tolist())
            assert abs(found[image, segment].item() - wanted) < 1e-12  # float64, summed in another order
        assert found[image, count:].isnan().all()


def test_on_their_own_superpixels_weights_are_the_sums() -> None:
    counts = [5, 3]
    labels = labelled(3, counts)
    weights = torch.tensor([[0.5, -1.0, 2.0, 0.25, 0.0], [1.0, 2.0, 3.0, math.nan, math.nan]])
    found = weight_sums(weights, labels, labels, torch.tensor(counts))
    assert torch.equal(found[0], weights[0].double())
    assert torch.equal(found[1, :3], weights[1, :3].double())
    assert found[1, 3:].isnan().all()


def test_on_others_what_two_superpixels_share_counts_by_its_area() -> None:
    own = torch.tensor([[[0, 0, 0, 1]]], dtype=torch.int32)
    other = torch.tensor([[[0, 1, 1, 1]]], dtype=torch.int32)
    found = weight_sums(torch.tensor([[3.0, 5.0]]), own, other, torch.tensor([2]))
    assert found.tolist() == [[1.0, 2.0 + 5.0]]


def test_the_sum_of_all_weights_is_conserved() -> None:
    own, other = labelled(5, [8, 8]), labelled(6, [3, 11])
    weights = torch.randn(2, 8, generator=torch.Generator().manual_seed(7))
    found = weight_sums(weights, own, other, torch.tensor([3, 11]))
    assert torch.allclose(found.nansum(1), weights.double().sum(1), rtol=0, atol=1e-12)


def test_an_image_does_not_hang_on_its_neighbours() -> None:
    own, other = labelled(8, [6, 6]), labelled(9, [6, 6])
    other[0] = own[0]  # the first has the same superpixels, the second does not
    weights = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    both = weight_sums(weights, own, other, torch.tensor([6, 6]))
    assert torch.equal(both[0], weights[0].double())
    alone = weight_sums(weights[1:], own[1:], other[1:], torch.tensor([6]))
    assert torch.equal(both[1], alone[0])
