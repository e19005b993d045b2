"""Traits of pictures whose traits are known."""

from __future__ import annotations

import math

import pytest
import torch

from fastxai.measures import colour_entropy, edge_density


def test_a_plain_picture_has_neither_edges_nor_colours() -> None:
    plain = torch.full((3, 32, 32), 77, dtype=torch.uint8)
    assert edge_density(plain) == 0.0
    assert colour_entropy(plain) == 0.0
    assert math.copysign(1, colour_entropy(plain)) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_equal_shares_of_colours_have_the_entropy_of_their_number(channels: int) -> None:
    picture = torch.zeros(channels, 8, 8, dtype=torch.uint8)
    picture[0] = (torch.arange(8, dtype=torch.uint8) * 32)[:, None]  # eight levels of one channel
    assert colour_entropy(picture) == pytest.approx(3.0, abs=1e-12)
    assert colour_entropy(picture // 64 * 64) == pytest.approx(2.0, abs=1e-12)


def test_every_colour_of_three_channels_has_nine_bits() -> None:
    levels = torch.cartesian_prod(*[torch.arange(8)] * 3).T.reshape(3, 16, 32)
    assert colour_entropy((levels * 32 + 31).to(torch.uint8)) == pytest.approx(9.0, abs=1e-12)


def test_more_stripes_have_more_edges() -> None:
    def stripes(count: int) -> torch.Tensor:
        row = ((torch.arange(64) * count // 64) % 2 * 255).to(torch.uint8)
        return row.expand(3, 64, 64).contiguous()

    one, many = edge_density(stripes(2)), edge_density(stripes(8))
    assert 0 < one < many < 1
    assert many == pytest.approx(7 * one, rel=0.35)  # seven borders for one; the detector leaves out the picture's rim


def test_one_channel_is_its_own_luma() -> None:
    noise = torch.randint(0, 256, (1, 9, 9), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    grey = noise.repeat_interleave(7, 1).repeat_interleave(7, 2)
    colours = grey.expand(3, -1, -1).contiguous()
    # along a step two rows of pixels have the same slope, and rounding decides which of them is the edge
    assert edge_density(grey) == pytest.approx(edge_density(colours), rel=0.02)
    assert edge_density(grey) > 0.05
