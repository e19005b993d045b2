"""slic: every form gives the labels of scikit-image.

Where scikit-image's own build rounds every operation (x86-64) they are the same to the pixel, ties included; elsewhere,
and with the Lab of a GPU, pixels about as far from two centres may differ, at most 1% on pictures.
"""

from __future__ import annotations

import math
import platform

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.ops import slic
from fastxai.ops._slic_colours import _on_device, colours
from fastxai.ops.slic import _grid

from .conftest import chw, noise

SAME = platform.machine() in ("x86_64", "AMD64")


def share(pictures, implementation=None, **options):
    """The labels, and on which share of the pixels they are those of scikit-image, in the worst picture."""
    got = slic(pictures, implementation=implementation, **options)
    wanted = slic(pictures, implementation="scikit-image", **options)
    assert got.dtype == wanted.dtype == torch.int32
    assert got.shape == wanted.shape == (pictures.shape[0], *pictures.shape[2:])
    return got, (got == wanted).double().mean((1, 2)).min().item()


def agrees(pictures, implementation=None, **options):
    got, agreement = share(pictures, implementation, **options)
    assert agreement == 1.0 if SAME else agreement >= 0.99, agreement
    return got


@pytest.fixture(scope="module")
def seeds(shared_data):
    """The seed images, shrunk to 224 x 224, and a crop of each: uint8 [20, 3, 224, 224]."""
    paths = sorted((shared_data / "seed_images").glob("*.JPEG"))
    assert len(paths) == 10
    pictures = []
    for path in paths:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        left, top = (picture.width - 224) // 2, (picture.height - 224) // 3
        for one in (picture, picture.crop((left, top, left + 224, top + 224))):
            pictures.append(chw(np.asarray(one.resize((224, 224), Image.Resampling.BICUBIC))))
    return torch.stack(pictures)


def test_the_reference_is_scikit_image(crops):
    from skimage.segmentation import slic as peer

    picture = crops[0]
    wanted = peer(picture.permute(1, 2, 0).numpy(), n_segments=60, compactness=5.0, sigma=1.0, start_label=0)
    got = slic(crops[:1], segments=60, compactness=5.0, sigma=1.0, implementation="scikit-image")
    assert np.array_equal(got[0].numpy(), wanted)
    assert got.dtype == torch.int32


def test_photographs(crops):
    labels = agrees(crops)
    assert all(40 < len(picture.unique()) < 150 for picture in labels)


def test_seed_images(seeds):
    agrees(seeds)


@pytest.mark.parametrize(
    "options",
    [
        {"segments": 1},
        {"segments": 50, "compactness": 1},
        {"segments": 300, "compactness": 30, "sigma": 1.0},
        {"segments": 1000, "compactness": 0.1},
        {"segments": 500, "compactness": 0.01, "iterations": 25},
        {"sigma": 2.5, "iterations": 3},
        {"compactness": 1000, "iterations": 1},
    ],
    ids=str,
)
def test_options(crops, options):
    agrees(crops[1:3], **options)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    corner=st.tuples(st.integers(0, 160), st.integers(0, 160)),
    photo=st.integers(0, 3),
    segments=st.integers(1, 700),
    compactness=st.floats(0.01, 100),
    sigma=st.sampled_from([0.0, 0.6, 3.0]),
    iterations=st.integers(1, 12),
)
def test_random_crops(crops, size, corner, photo, segments, compactness, sigma, iterations):
    (height, width), (top, left) = size, corner
    crop = crops[photo : photo + 1, :, top : top + height, left : left + width]
    agrees(crop, segments=segments, compactness=compactness, sigma=sigma, iterations=iterations)


# The kernels that stand in for a GPU's serve all examples.
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(["numba", "cuda"]),
    shape=st.tuples(st.integers(1, 2), st.just(3), st.integers(1, 13), st.integers(1, 19)),
    levels=st.sampled_from([1, 2, 5, 256]),
    segments=st.sampled_from([1, 2, 9, 40, 500]),
    compactness=st.floats(0.01, 100),
    sigma=st.sampled_from([0.0, 0.7]),
    iterations=st.integers(1, 4),
    way=st.integers(0, 3),
    seed=st.integers(0, 2**31),
)
def test_every_form_in_any_layout(
    relaid, host_gpu, form, shape, levels, segments, compactness, sigma, iterations, way, seed
):
    pictures = relaid(noise(*shape, seed=seed, levels=levels), way)
    agrees(pictures, form, segments=segments, compactness=compactness, sigma=sigma, iterations=iterations)


@pytest.mark.parametrize("implementation", ["numba", "cuda"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 19), (19, 1), (5, 111), (111, 6), (3, 989), (40, 33)])
def test_awkward_sizes(host_gpu, implementation, height, width):
    agrees(noise(2, 3, height, width, seed=width, levels=4), implementation, segments=20)


@pytest.mark.parametrize("implementation", ["numba", "cuda"])
@pytest.mark.parametrize("level", [0, 77, 255])
def test_flat_pictures(host_gpu, implementation, level):
    """Nothing but ties: a pixel half way between two centres belongs to the first."""
    flat = torch.full((1, 3, 40, 48), level, dtype=torch.uint8)
    agrees(flat, implementation, segments=20)
    flat[:, :, 20:30, 10:30] = 128
    agrees(flat, implementation, segments=30)


@pytest.mark.parametrize("implementation", ["numba", "cuda"])
def test_segments_that_lose_all_pixels_stay_empty(host_gpu, implementation):
    stripes = torch.zeros(1, 3, 30, 40, dtype=torch.uint8)
    stripes[..., ::2] = 255
    agrees(stripes, implementation, segments=200, compactness=0.01)


def test_kernels_on_photographs(crops, host_gpu):
    agrees(crops[:1], "cuda", iterations=2)
    assert host_gpu == ["slic_assign", "slic_update", "slic_assign", "slic_connect"]
    pictures = crops[1:3, :, 90:151, 70:143]
    together = agrees(pictures, "cuda", segments=30, compactness=1.0, sigma=0.8)
    alone = pictures[1:].contiguous(memory_format=torch.channels_last)
    alone = slic(alone, segments=30, compactness=1.0, sigma=0.8, implementation="cuda")
    assert torch.equal(alone, together[1:])
    agrees(pictures[:1], "cuda", segments=600, iterations=2)  # more than a block looks at together
    agrees(pictures[:1], "cuda", segments=1, iterations=2)


@pytest.mark.parametrize("sigma", [0.0, 1.5])
def test_lab_of_a_gpu_gives_nearly_the_same_labels(crops, seeds, monkeypatch, sigma):
    monkeypatch.setattr("fastxai.ops._slic_colours.colours", _on_device)
    _, agreement = share(torch.cat((crops, seeds[::2])), sigma=sigma)
    print(f"slic with the Lab of a GPU: {agreement:.4%} of the pixels as scikit-image in the worst picture")
    assert agreement >= 0.99


@pytest.mark.parametrize("sigma", [0.0, 0.3, 2.0])
def test_colours_have_the_bits_of_scikit_image(crops, sigma):
    from skimage.color import rgb2lab
    from skimage.filters import gaussian

    dim = (crops[:1].float() * 0.4 + 60).byte()  # darkest and brightest byte are not 0 and 255
    for picture in (crops[1], *dim, crops[0, :, :19, :111]):
        pixels = picture.permute(1, 2, 0).numpy()[None] * (1.0 / 255)
        pixels -= pixels.min()
        pixels /= pixels.max()
        wanted = rgb2lab(pixels)
        if sigma:
            wanted = gaussian(wanted, sigma=[sigma] * 3 + [0], mode="reflect")
        wanted = torch.from_numpy(np.moveaxis(wanted[0] * (1 / 7.0), -1, 0).copy())
        assert torch.equal(colours(picture[None], 7.0, sigma)[0], wanted)
        # Some roundings of values up to 100, each 1e-14, times 500, over 7.
        torch.testing.assert_close(_on_device(picture[None], 7.0, sigma)[0], wanted, rtol=0, atol=2e-12)


def test_a_blank_picture_has_no_range_to_stretch():
    blank = torch.full((1, 3, 4, 5), 200, dtype=torch.uint8)
    for convert in (colours, _on_device):
        assert convert(blank, 1.0, 0.0).abs().max() < 1e-9


@pytest.mark.parametrize("segments", [1, 2, 7, 50, 300, 2000])
def test_the_grid_reaches_every_pixel(segments):
    """Where it did not, scikit-image would write outside of its arrays, and there were nothing to agree with."""
    for height in (*range(1, 30, 7), 100, 224):
        for width in (*range(1, 30, 9), 111, 224):
            grid = _grid(height, width, segments)
            for axis, size, step in ((3, height, grid.step_y), (4, width, grid.step_x)):
                away = (torch.arange(size)[:, None] - grid.centres[:, axis].unique()).abs()
                assert away.min(dim=1).values.max() <= 2 * step


def test_labels_are_numbered_in_raster_order(crops):
    for picture in slic(crops, segments=200, compactness=1.0):
        seen = picture.flatten().cummax(0).values
        assert picture[0, 0] == 0
        assert set(seen.diff().tolist()) == {0, 1}


def test_the_batch_and_the_layout_do_not_matter(crops):
    pictures = crops[:, :, :70, :75]
    together = slic(pictures)
    for picture, labels in zip(pictures, together, strict=True):
        assert torch.equal(slic(picture[None].contiguous())[0], labels)
    assert torch.equal(slic(pictures.contiguous(memory_format=torch.channels_last)), together)
    assert slic(pictures[:0]).shape == (0, 70, 75)


def test_threads_do_not_matter(crops):
    threads = torch.get_num_threads()
    wanted = slic(crops[:2])
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert torch.equal(slic(crops[:2]), wanted)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"pictures": torch.zeros(2, 3, 8, 9)}, ArgumentError, r"pictures must be uint8 \[B, 3, H, W\], got float32"),
        ({"pictures": torch.zeros(2, 1, 8, 9, dtype=torch.uint8)}, ArgumentError, "pictures must be uint8"),
        ({"pictures": torch.zeros(3, 8, 9, dtype=torch.uint8)}, ArgumentError, "pictures must be uint8"),
        ({"pictures": torch.zeros(1, 3, 0, 9, dtype=torch.uint8)}, ArgumentError, "pictures must not be empty"),
        ({"pictures": np.zeros((1, 3, 8, 9), np.uint8)}, ArgumentTypeError, "pictures must be a tensor, got ndarray"),
        (
            {"pictures": torch.zeros(1, 3, 8, 9, dtype=torch.uint8, device="meta")},
            ArgumentError,
            "pictures must be on a device that holds values, got meta",
        ),
        ({"segments": 0}, ArgumentError, "segments must be at least 1, got 0"),
        ({"segments": 10.5}, ArgumentTypeError, "segments must be a whole number, got 10.5"),
        ({"compactness": 0}, ArgumentError, "compactness must be a number at least 1e-100, got 0"),
        ({"compactness": "10"}, ArgumentTypeError, "compactness must be a number"),
        ({"sigma": -1}, ArgumentError, "sigma must be a number at least 0"),
        ({"sigma": "1"}, ArgumentTypeError, "sigma must be a number, got '1'"),
        ({"sigma": math.nan}, ArgumentError, "sigma must be a number"),
        ({"iterations": 0}, ArgumentError, "iterations must be at least 1, got 0"),
        ({"iterations": 2.0}, ArgumentTypeError, "iterations must be a whole number, got 2.0"),
        ({"implementation": "fast"}, ArgumentError, "implementation must be one of scikit-image, numba, cuda"),
    ],
)
def test_wrong_arguments(change, error, message):
    arguments = {"pictures": torch.zeros(1, 3, 8, 9, dtype=torch.uint8)}
    slic(**arguments)
    with pytest.raises(error, match=message):
        slic(**{**arguments, **change})
