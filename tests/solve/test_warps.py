"""Scales between scores and logits."""

from __future__ import annotations

import math

import pytest
import torch

from fastxai.solve.warps import Warp

SCORES = torch.linspace(0, 1, 33, dtype=torch.float64)[:, None] ** 2


@pytest.mark.parametrize("offset", [math.inf, 1.0, 0.03, 1e-3])
def test_there_and_back(offset):
    warp = Warp(offset)
    torch.testing.assert_close(warp.back(warp(SCORES)), SCORES, rtol=1e-12, atol=1e-14)
    assert (warp(SCORES).diff(dim=0) > 0).all()


@pytest.mark.parametrize("offset", [math.inf, 1.0, 0.03, 1e-3])
def test_volume_is_the_logarithm_of_the_slopes(offset):
    scores = SCORES.repeat(1, 2).requires_grad_()
    (slopes,) = torch.autograd.grad(Warp(offset)(scores).sum(), scores)
    torch.testing.assert_close(Warp(offset).volume(SCORES.repeat(1, 2)), slopes.log().sum(0))


def test_a_large_offset_is_nearly_straight():
    bent = Warp(100.0)(SCORES)[:, 0]
    line = bent[0] + (bent[-1] - bent[0]) * SCORES[:, 0]
    assert (bent - line).abs().max() < 1e-5 * (bent[-1] - bent[0])
