"""Geometry, by pixel against torchvision's and timm's own transforms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from fastxai.decoding import apply_geometry
from fastxai.decoding.geometry import resized_size
from fastxai.errors import ArgumentError
from fastxai.types import Preprocess

SIZES = [(7, 5), (223, 225), (224, 224), (255, 257), (256, 256), (301, 199), (640, 427), (100, 1000), (1, 1), (3, 100)]


def noise(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(size[0] * 7919 + size[1]).integers(0, 256, shape, np.uint8))


def torchvision_pixels(
    picture: Image.Image, resize: int | tuple[int, int] | None, crop: tuple[int, int], how: str
) -> np.ndarray:
    steps: list[torch.nn.Module] = []
    if resize is not None:
        steps.append(v2.Resize(resize, InterpolationMode(how), antialias=True))
    steps += [v2.CenterCrop(crop), v2.PILToTensor()]
    return v2.Compose(steps)(picture).numpy()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", ["bilinear", "bicubic", "nearest", "lanczos"])
def test_by_pixel_what_torchvision_does(size: tuple[int, int], how: str) -> None:
    picture = noise(size)
    for resize, crop in ((256, (224, 224)), (224, (224, 224)), (61, (32, 47)), (40, (50, 60)), ((77, 91), (60, 64))):
        placed = apply_geometry(picture, Preprocess(crop, resize, how, (0.5,) * 3, (0.5,) * 3))
        assert placed.pixels.dtype == np.uint8
        np.testing.assert_array_equal(placed.pixels, torchvision_pixels(picture, resize, crop, how))


@pytest.mark.parametrize("size", SIZES)
def test_crop_and_padding_without_a_resize(size: tuple[int, int]) -> None:
    picture = noise(size)
    for crop in ((224, 224), (6, 6), (225, 3), (300, 301)):
        placed = apply_geometry(picture, Preprocess(crop, None))
        np.testing.assert_array_equal(placed.pixels, torchvision_pixels(picture, None, crop, "bilinear"))


def test_grey_pictures() -> None:
    picture = noise((99, 70), "L")
    placed = apply_geometry(picture, Preprocess((32, 32), 40, "bicubic", (0.5,), (0.5,)))
    assert placed.pixels.shape == (1, 32, 32)
    np.testing.assert_array_equal(placed.pixels, torchvision_pixels(picture, 40, (32, 32), "bicubic"))


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet50", "vit_base_patch16_224"])
def test_by_pixel_what_timm_does(name: str, photos: dict[str, np.ndarray]) -> None:
    timm = pytest.importorskip("timm")
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict(), model=None)
    assert config["crop_mode"] == "center"
    transform = timm.data.create_transform(**config)
    height, width = config["input_size"][1:]
    preprocess = Preprocess(
        (height, width), math.floor(height / config["crop_pct"]), config["interpolation"], config["mean"], config["std"]
    )
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    for photo in photos.values():
        picture = Image.fromarray(photo)
        placed = apply_geometry(picture, preprocess)
        ours = (torch.from_numpy(placed.pixels).float() / 255 - mean) / std
        assert torch.equal(ours, transform(picture))


def test_the_crop_box_places_a_map_on_the_original() -> None:
    # 400 x 200 -> 160 x 80 -> the middle 60 x 40 (w x h): 2.5 original pixels each
    crop = apply_geometry(noise((400, 200)), Preprocess((40, 60), 80)).crop
    assert crop.dtype == np.float32
    np.testing.assert_array_equal(crop, [50 * 2.5, 20 * 2.5, 110 * 2.5, 60 * 2.5])
    np.testing.assert_array_equal(apply_geometry(noise((4, 6)), Preprocess((10, 8), None)).crop, [-2, -2, 6, 8])
    np.testing.assert_array_equal(apply_geometry(noise((50, 70)), Preprocess((14, 10), (14, 10))).crop, [0, 0, 50, 70])


def test_the_crop_box_shows_what_was_cropped() -> None:
    # a ramp along x: its mean over the crop is the box's centre, whatever the filter
    ramp = np.repeat(np.linspace(0, 255, 511)[None, :, None], 300, 0).repeat(3, 2)
    placed = apply_geometry(Image.fromarray(np.round(ramp).astype(np.uint8)), Preprocess((64, 33), 97))
    centre = (placed.crop[0] + placed.crop[2]) / 2
    # pixel x has brightness x / 2; half a pixel of an odd margin is 1.5 original pixels; rounding adds 0.5
    assert abs(placed.pixels.mean() - (centre - 0.5) / 2) < 0.5


@pytest.mark.parametrize("size", [(1, 90_000), (90_000, 1), (3, 60_000)])
def test_long_and_thin_pictures_do_not_take_gigabytes(size: tuple[int, int]) -> None:
    picture = noise(size)
    placed = apply_geometry(picture, Preprocess((24, 24), 200))
    # what is cropped comes from the middle of the long side: the same from a picture cut there beforehand
    middle, reach = max(size) // 2, 30
    cut = (
        (0, middle - reach, size[0], middle + reach)
        if size[1] > size[0]
        else (middle - reach, 0, middle + reach, size[1])
    )
    expected = apply_geometry(picture.crop(cut), Preprocess((24, 24), 200)).pixels
    assert np.abs(placed.pixels.astype(int) - expected).max() <= 1  # box coordinates are float32 in Pillow


def test_sizes() -> None:
    assert resized_size((500, 375), 256) == (341, 256)
    assert resized_size((375, 500), 256) == (256, 341)
    assert resized_size((375, 500), (10, 20)) == (10, 20)
    assert resized_size((375, 500), None) == (375, 500)


def test_an_unknown_interpolation_is_refused() -> None:
    with pytest.raises(ArgumentError, match="interpolation must be one of nearest"):
        apply_geometry(noise((5, 5)), Preprocess((4, 4), None, "cubic"))
