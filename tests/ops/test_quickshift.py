"""quickshift: every form gives the labels of scikit-image, pixel by pixel."""

from __future__ import annotations

import importlib
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.ops import quickshift
from fastxai.ops._lab import lab, lab_with_torch, light_of_bytes
from fastxai.ops._quickshift_loops import power_of_half
from fastxai.ops.quickshift import _densities, _longest, _noise

from .conftest import chw, noise

FORMS = ["torch", "numba", "cuda"]


def scikit_image(picture, kernel_size=4.0, max_dist=200.0, ratio=0.2):
    """picture uint8 [3, H, W] -> its labels int64 [H, W]."""
    from skimage.segmentation import quickshift as peer

    pixels = np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
    return torch.from_numpy(peer(pixels, kernel_size=kernel_size, max_dist=max_dist, ratio=ratio)).long()


def agrees(pictures, implementation=None, **options):
    got = quickshift(pictures, implementation=implementation, **options)
    assert got.dtype == torch.int32
    assert got.shape == (pictures.shape[0], *pictures.shape[2:])
    for picture, labels in zip(pictures, got, strict=True):
        assert torch.equal(labels.long(), scikit_image(picture, **options))
    return got


def lab_of_a_gpu(pictures):
    return lab_with_torch(pictures, torch.tensor(light_of_bytes()))


def test_photographs(crops):
    labels = agrees(crops)
    assert all(20 < len(picture.unique()) < 2000 for picture in labels)


@pytest.mark.parametrize("way", ["shrunk", "cropped"])
def test_seed_images(shared_data, way):
    paths = sorted((shared_data / "seed_images").glob("*.JPEG"))
    assert paths
    side, pictures = 224 if way == "shrunk" else 160, []
    for path in paths:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        if way == "cropped":
            left, top = (picture.width - side) // 2, (picture.height - side) // 3
            picture = picture.crop((left, top, left + side, top + side))
        pictures.append(chw(np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))))
    agrees(torch.stack(pictures))


@pytest.mark.parametrize("kernel_size", [1, 1.5, 2, 3, 5, 6, 7, 8])
def test_kernel_sizes(crops, kernel_size):
    size = 224 if kernel_size <= 3 else 112
    for n, ratio in ((0, 0.2), (3, 0.5)):
        agrees(crops[n : n + 1, :, -size:, :size], kernel_size=kernel_size, ratio=ratio)


@pytest.mark.parametrize("implementation", FORMS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ratio": 0},
        {"ratio": 1},
        {"max_dist": 0},
        {"max_dist": 2},
        {"max_dist": 7.5, "ratio": 1},
        {"kernel_size": 1, "ratio": 1},
        {"kernel_size": 8},
    ],
    ids=str,
)
def test_options(crops, host_gpu, implementation, options):
    agrees(crops[1:3, :, 90:138, 70:123], implementation, **options)
    names = ["quickshift_density", "quickshift_parent", "quickshift_root"]
    assert host_gpu == (names if implementation == "cuda" else [])


@pytest.mark.parametrize("implementation", FORMS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 19), (19, 1), (5, 111), (111, 6), (3, 989), (40, 33)])
def test_awkward_sizes(host_gpu, implementation, height, width):
    agrees(noise(2, 3, height, width, seed=width, levels=4), implementation, kernel_size=2.5)


@pytest.mark.parametrize("implementation", FORMS)
@pytest.mark.parametrize("level", [0, 255])
def test_flat_pictures(host_gpu, implementation, level):
    """Nothing but the noise decides, as in a frame around a picture."""
    flat = torch.full((1, 3, 61, 47), level, dtype=torch.uint8)
    agrees(flat, implementation)
    flat[:, :, 20:40, 10:30] = 128
    agrees(flat, implementation)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    corner=st.tuples(st.integers(0, 180), st.integers(0, 180)),
    photo=st.integers(0, 3),
    kernel_size=st.floats(1, 8),
    max_dist=st.sampled_from([0.5, 3, 10, 200]),
    ratio=st.floats(0, 1),
)
def test_random_crops(crops, size, corner, photo, kernel_size, max_dist, ratio):
    (height, width), (top, left) = size, corner
    crop = crops[photo : photo + 1, :, top : top + height, left : left + width]
    agrees(crop, kernel_size=kernel_size, max_dist=max_dist, ratio=ratio)


# The kernels that stand in for a GPU's serve all examples.
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(FORMS),
    shape=st.tuples(st.integers(0, 2), st.just(3), st.integers(1, 13), st.integers(1, 19)),
    levels=st.sampled_from([1, 2, 5, 256]),
    kernel_size=st.floats(1, 3),
    max_dist=st.sampled_from([0, 1, 2.5, 200]),
    ratio=st.floats(0, 1),
    way=st.integers(0, 3),
    seed=st.integers(0, 2**31),
)
def test_every_form_in_any_layout(relaid, host_gpu, form, shape, levels, kernel_size, max_dist, ratio, way, seed):
    pictures = relaid(noise(*shape, seed=seed, levels=levels), way)
    agrees(pictures, form, kernel_size=kernel_size, max_dist=max_dist, ratio=ratio)


def test_the_batch_and_the_layout_do_not_matter(crops):
    pictures = crops[:, :, :70, :75]
    together = quickshift(pictures)
    for picture, labels in zip(pictures, together, strict=True):
        assert torch.equal(quickshift(picture[None].contiguous())[0], labels)
    assert torch.equal(quickshift(pictures.contiguous(memory_format=torch.channels_last)), together)
    assert quickshift(pictures[:0]).shape == (0, 70, 75)


def test_threads_do_not_matter(crops):
    threads = torch.get_num_threads()
    wanted = quickshift(crops[:2])
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            assert torch.equal(quickshift(crops[:2]), wanted)
    finally:
        torch.set_num_threads(threads)
    with ThreadPoolExecutor(2) as pool:
        for labels, alone in zip(wanted, pool.map(quickshift, crops[:2].split(1)), strict=True):
            assert torch.equal(alone[0], labels)


def test_lab_has_the_bits_of_scikit_image(crops):
    from skimage.color import rgb2lab

    cube = torch.cartesian_prod(*[torch.arange(0, 256, 5, dtype=torch.uint8)] * 3).T.reshape(3, 52 * 26, 104)
    for picture in (*crops, cube, cube[:, :1], cube[:, :19, :111]):
        wanted = torch.from_numpy(np.moveaxis(rgb2lab(picture.permute(1, 2, 0).numpy()), -1, 0).copy())
        assert torch.equal(lab(picture[None])[0], wanted)
        # Some roundings of values up to 100, each 1e-14, times 500.
        torch.testing.assert_close(lab_of_a_gpu(picture[None])[0], wanted, rtol=0, atol=1e-11)


def test_lab_of_a_gpu_gives_the_same_labels(crops, host_gpu, monkeypatch):
    # The package's attribute of this name is the function, so the module is asked for by its own.
    monkeypatch.setattr(importlib.import_module("fastxai.ops.quickshift"), "lab", lab_of_a_gpu)
    agrees(crops[:2, :, 100:164, 100:164], "cuda")


def borders(labels):
    return torch.cat([(labels.diff(dim=dim) != 0).flatten() for dim in (1, 2)])


def test_lab_of_a_gpu_keeps_near_ties(crops, monkeypatch):
    """Places that are equally far but for rounding are common where few colours meet few distances.

    How scikit-image rounds depends on numpy's products on this CPU: without AVX-512 a tie falls the other way now and
    then.
    """
    wanted = {kernel_size: quickshift(crops, kernel_size=kernel_size) for kernel_size in (1, 2)}
    monkeypatch.setattr(importlib.import_module("fastxai.ops.quickshift"), "lab", lab_of_a_gpu)
    for kernel_size, labels in wanted.items():
        found = quickshift(crops, kernel_size=kernel_size)
        if torch.backends.cpu.get_cpu_capability() == "AVX512":
            assert torch.equal(found, labels)
        assert (borders(found) != borders(labels)).float().mean() < 2e-4


def test_power_of_half_is_exact_to_the_last_bits():
    for square in [0.0, 1e-9, 0.3, 0.49999, 0.5, 0.75, 1.0, 7.123, 55.5, 300.1]:
        got = power_of_half(np.float64(math.sqrt(square)), np.float64(0), np.float64(0))
        # 6e-16 of the polynomial, an ulp of each rounding, and the root's and square's roundings times the exponent.
        assert got == pytest.approx(2.0**-square, rel=2e-15 + 5e-16 * square)
    assert power_of_half(np.float64(0), np.float64(0), np.float64(0)) == 1.0
    assert power_of_half(np.float64(1e6), np.float64(1e6), np.float64(0)) == 2.0**-1000


@pytest.mark.parametrize("kernel_size", [1.0, 4.0])
def test_densities_are_sums_over_the_window(crops, kernel_size):
    height, width, radius = 37, 29, math.ceil(3 * kernel_size)
    points = lab(crops[1:2, :, 100 : 100 + height, 100 : 100 + width]) * 0.2
    got = _densities(points, kernel_size, radius)[0] - _noise(height, width, points.device).numpy()
    place = torch.cartesian_prod(torch.arange(height), torch.arange(width)).double()
    apart = place[:, None] - place
    colour = points[0].flatten(1).T
    square = apart.pow(2).sum(-1) + (colour[:, None] - colour).pow(2).sum(-1)
    inside = apart.abs().amax(-1) <= radius
    wanted = (inside * torch.exp(-square / (2 * kernel_size**2))).sum(1).reshape(height, width).numpy()
    # Up to 625 terms of at most 1, a few 1e-16 each: far below the noise of 1e-5.
    assert np.abs(got - wanted).max() < 1e-12


@pytest.mark.parametrize("max_dist", [0.0, 1e-200, 0.1, 1.0, math.sqrt(2), 2.5, 7.0, 200.0, 1e8])
def test_longest_square_cuts_where_the_root_does(max_dist):
    longest = _longest(max_dist)
    assert math.sqrt(longest) <= max_dist < math.sqrt(math.nextafter(longest, math.inf))


def test_without_limit():
    assert _longest(1e300) >= 1e18
    agrees(noise(1, 3, 20, 20), max_dist=1e300)


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
        ({"kernel_size": 0.5}, ArgumentError, r"kernel_size must be a number at least 1 and at most 1e\+100, got 0.5"),
        ({"kernel_size": 1e200}, ArgumentError, r"kernel_size must be a number at least 1 and at most 1e\+100"),
        ({"kernel_size": "4"}, ArgumentTypeError, "kernel_size must be a number"),
        ({"max_dist": "far"}, ArgumentTypeError, "max_dist must be a number, got 'far'"),
        ({"max_dist": math.inf}, ArgumentError, "max_dist must be a number at least 0, got inf"),
        ({"max_dist": -1}, ArgumentError, "max_dist must be a number at least 0"),
        ({"ratio": 1.5}, ArgumentError, "ratio must be a number at least 0 and at most 1"),
        ({"ratio": None}, ArgumentTypeError, "ratio must be a number, got None"),
        ({"ratio": math.nan}, ArgumentError, "ratio must be a number"),
        ({"implementation": "fast"}, ArgumentError, "implementation must be one of torch, numba, cuda"),
    ],
)
def test_wrong_arguments(change, error, message):
    arguments = {"pictures": torch.zeros(1, 3, 8, 9, dtype=torch.uint8)}
    quickshift(**arguments)
    with pytest.raises(error, match=message):
        quickshift(**{**arguments, **change})
