"""Colours at known pixels: what stays, what is outlined, and which colour a mask has."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.colors import to_rgb

from fastxai.report import pictures


def flat(level: int = 128, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    return pictures.rgb(torch.full((3, *size), level, dtype=torch.uint8), 10)


def halves() -> torch.Tensor:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:, :4] = True
    return mask


def test_rgb_enlarges_and_keeps_colours() -> None:
    pixels = torch.tensor([10, 100, 250], dtype=torch.uint8).view(3, 1, 1).expand(3, 4, 6)
    shown = pictures.rgb(pixels, 3)
    assert shown.shape == (12, 18, 3)
    assert np.allclose(shown, np.array([10, 100, 250]) / 255, atol=1e-6)  # rounding of float32 interpolation weights


def test_one_channel_is_grey_and_more_than_three_show_the_first_three() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (5, 4, 4), dtype=torch.uint8, generator=generator)
    assert np.array_equal(pictures.rgb(pixels), pictures.rgb(pixels[:3]))
    for count in (1, 2):
        grey = pictures.rgb(pixels[:count])
        assert (grey[..., 0] == grey[..., 1]).all()
        assert (grey[..., 0] == grey[..., 2]).all()
        assert np.array_equal(grey[..., 0], pixels[0].numpy().astype(np.float32) / 255)


def test_outlines_stand_on_the_borders_only() -> None:
    shown = pictures.outlined(flat(), halves().int(), width=2)
    changed = np.abs(shown - flat()).max(axis=-1) > 0.01
    assert changed[:, 39:41].all()  # the border lies between columns 39 and 40 of ten times eight
    assert not changed[:, :38].any()
    assert not changed[:, 42:].any()


def test_highlight_keeps_the_mask_and_pales_the_rest() -> None:
    picture = pictures.rgb(torch.tensor([200, 30, 30], dtype=torch.uint8).view(3, 1, 1).expand(3, 8, 8), 10)
    shown = pictures.highlighted(picture, halves())
    assert np.array_equal(shown[40, 10], picture[40, 10])
    assert np.ptp(shown[40, 70]) < 1e-6  # grey


def test_two_masks_show_three_colours() -> None:
    top = torch.zeros(8, 8, dtype=torch.bool)
    top[:4] = True
    shown = pictures.two_masks(flat(), halves(), top)
    for (row, column), color in (((60, 20), "FIRST"), ((20, 60), "SECOND"), ((20, 20), "BOTH")):
        pure = np.array(to_rgb(getattr(pictures, color)))
        away = shown[60, 60]
        share = (shown[row, column] - away) @ (pure - away) / ((pure - away) @ (pure - away))
        assert 0.5 < share < 0.75  # about the opacity that the colour is painted with
    assert np.ptp(shown[60, 60]) < 1e-6


def test_signed_overlay_is_symmetric_about_zero() -> None:
    values = torch.zeros(8, 8)
    values[:, :2], values[:, 6:] = 1.0, -1.0
    shown = pictures.signed_overlay(flat(), values, 1.0)
    red, blue, nothing = shown[40, 5], shown[40, 75], shown[40, 40]
    assert red[0] > red[2] + 0.2
    assert blue[2] > blue[0] + 0.2
    assert np.ptp(nothing) < 0.05  # bicubic interpolation rings a little
    assert np.isfinite(pictures.signed_overlay(flat(), torch.zeros(8, 8), 0.0)).all()


def test_positive_overlay_grows_brighter() -> None:
    shown = pictures.positive_overlay(flat(), torch.linspace(0, 1, 8).expand(8, 8))
    brightness = shown[40].mean(axis=-1)
    assert (np.diff(brightness) > -0.01).all()
    assert brightness[-1] > brightness[0] + 0.3


def test_limit_is_the_99th_percentile_unless_that_is_zero() -> None:
    values = torch.arange(-50.0, 51.0)
    values[0] = -1e6
    assert pictures.limit_of(values) == np.quantile(values.abs().numpy(), 0.99)
    spike = torch.zeros(1000)
    spike[3] = -2.0
    assert pictures.limit_of(spike) == 2.0
    assert pictures.limit_of(torch.zeros(10)) == 0.0
