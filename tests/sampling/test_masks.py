"""The masks of RISE."""

import pytest
import torch
from torch.nn import functional

from fastxai import sampling
from fastxai.sampling.masks import axis_weights

CPU = torch.device("cpu")


def drawn(masks, rows, seed=0):
    keys = sampling.stream_keys(seed, ["a", "b"], "rise")
    return masks.draws(keys, torch.arange(rows) % 2, torch.arange(rows) // 2)


@pytest.mark.parametrize(("size", "cells"), [((24, 24), 7), ((19, 31), 4), ((8, 8), 8), ((5, 9), 1)])
def test_against_torchs_interpolation(size, cells):
    masks = sampling.GridMasks(size, cells, 0.4, CPU)
    grids, shifts = drawn(masks, 200)
    found = masks.grow(grids, shifts)
    assert masks.steps == tuple(-(-side // cells) for side in size)
    for axis in range(2):
        assert set(shifts[:, axis].tolist()) == set(range(masks.steps[axis]))
    full = tuple((cells + 1) * step for step in masks.steps)
    grown = functional.interpolate(grids.unsqueeze(1), full, mode="bilinear", align_corners=False)[:, 0]
    for row, (down, across) in enumerate(shifts.tolist()):
        wanted = grown[row, down : down + size[0], across : across + size[1]]
        # weights are rounded to 1/2048 on each axis, by half of that at most
        assert (found[row] - wanted).abs().max() <= 1.01 / 2048
    assert found.min() >= 0 and found.max() <= 1


def test_masks_have_the_same_bits_in_any_call():
    """A product of matrices may add in any order, for no sum of these numbers rounds."""
    masks = sampling.GridMasks((61, 47), 7, 0.5, CPU)
    grids, shifts = drawn(masks, 33)
    together = masks.grow(grids, shifts)
    for row in range(33):
        assert torch.equal(masks.grow(grids[row : row + 1], shifts[row : row + 1])[0], together[row])
    down, across = (part.double() for part in masks.weights)
    exact = down[shifts[:, 0]] @ grids.double() @ across[shifts[:, 1]].transpose(1, 2)
    assert torch.equal(together.double(), exact)
    assert torch.equal((together * 2048**2).frac(), torch.zeros_like(together))


def test_weights_of_a_pixel_sum_to_one():
    weights = axis_weights(224, 7, 32)
    assert weights.shape == (32, 224, 7)
    assert torch.equal(weights.sum(2), torch.ones(32, 224))
    assert ((weights > 0).sum(2) <= 2).all()


def test_rows_are_keyed_by_image_and_number_alone():
    masks = sampling.GridMasks((24, 24), 5, 0.5, CPU)
    grids, shifts = drawn(masks, 40)
    keys = sampling.stream_keys(0, ["b"], "rise")
    alone, alone_shifts = masks.draws(keys, torch.zeros(2, dtype=torch.int64), torch.tensor([11, 3]))
    assert torch.equal(alone, grids[[23, 7]])
    assert torch.equal(alone_shifts, shifts[[23, 7]])
    assert not torch.equal(drawn(masks, 40, seed=1)[0], grids)


def test_coins_fall_with_their_probability():
    masks = sampling.GridMasks((24, 24), 7, 0.3, CPU)
    grids, shifts = drawn(masks, 2000)
    assert abs(grids.mean() - 0.3) < 0.01  # 98,000 coins vary by 0.0015
    assert (grids.mean(0) - 0.3).abs().max() < 0.05  # 2,000 by 0.01
    assert (masks.grow(grids, shifts).mean(0) - 0.3).abs().max() < 0.05  # so that dividing by it leaves no bias
    assert torch.equal(drawn(sampling.GridMasks((24, 24), 7, 1.0, CPU), 9)[0], torch.ones(9, 7, 7))


def test_sums_of_grids_are_sums_of_masks():
    masks = sampling.GridMasks((24, 30), 5, 0.5, CPU)
    grids, shifts = drawn(masks, 200)
    factors = torch.randn(200, generator=torch.Generator().manual_seed(0))
    sums = torch.zeros(*masks.steps, 5, 5)
    for factor, grid, (down, across) in zip(factors, grids, shifts.tolist(), strict=True):
        sums[down, across] += factor * grid
    wanted = (factors.reshape(-1, 1, 1) * masks.grow(grids, shifts)).double().sum(0)
    # float32 sums of 7 grids a shift on one side, float32 products of size 1 on the other
    assert (masks.sum_up(sums) - wanted).abs().max() < 1e-5
    assert wanted.abs().max() > 1
