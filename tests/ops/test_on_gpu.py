"""Every op on a real GPU: its kernel, or torch there, against the torch reference on the CPU, at awkward sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastxai import ops

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or torch.version.cuda is None, reason="no NVIDIA GPU that torch can use"
    ),
]

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# batch, channels, height, width, segments, rows
SHAPES = [
    (1, 3, 1, 1, 1, 1),
    (2, 3, 7, 19, 5, 9),
    (3, 1, 4, 111, 33, 4),
    (2, 4, 5, 8, 64, 3),
    (2, 3, 5, 989, 40, 37),
    (1, 3, 224, 224, 500, 100),
    (2, 3, 3, 3, 2, 0),
]
PICTURES = [(1, 1, 1), (2, 7, 19), (3, 5, 111), (1, 3, 989), (4, 61, 73)]  # batch, height, width
MASKS = [(1, 1, 1), (3, 19, 111), (2, 989, 7), (4, 224, 224)]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels_last", [True, False])
def test_compose_rows(scene, shape, dtype, channels_last):
    made = scene(*shape)
    options = {"mean": made.mean, "std": made.std, "dtype": dtype, "channels_last": channels_last}
    for pictures in (made.pictures, made.pictures.float() / 37 - 3):
        for fill in (made.colour, made.colours):
            inputs = (pictures, made.labels, made.coalitions, made.image, fill)
            wanted = ops.compose_rows(*inputs, **options, implementation="torch")
            got = ops.compose_rows(*(tensor.cuda() for tensor in inputs), **options)
            assert got.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
            assert torch.equal(got.cpu(), wanted)


def test_compose_rows_of_inputs_that_are_not_contiguous_and_another_stream(scene):
    made = scene(2, 3, 12, 10, 20, 6)
    options = {"mean": made.mean, "std": made.std, "dtype": torch.float16}
    inputs = (made.pictures, made.labels, made.coalitions, made.image, made.colours)
    wanted = ops.compose_rows(*inputs, **options, implementation="torch")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        pictures = made.pictures.cuda().to(memory_format=torch.channels_last)
        labels = made.labels.cuda().transpose(1, 2).contiguous().transpose(1, 2)
        coalitions = made.coalitions.cuda().t().contiguous().t()
        colours = made.colours.cuda().transpose(1, 2).contiguous().transpose(1, 2)
        got = ops.compose_rows(pictures, labels, coalitions, made.image, colours, **options)
        assert torch.equal(got.cpu(), wanted)


@pytest.mark.parametrize(("rows", "words"), [(1, 1), (19, 3), (111, 4), (989, 19), (0, 5), (5, 0)])
def test_random_words(rows, words):
    g = torch.Generator().manual_seed(rows)
    keys = torch.randint(0, 2**32, (2, 7), generator=g).t()
    image, ordinal = torch.randint(0, 7, (rows,), generator=g), torch.randint(0, 2**62, (rows,), generator=g)
    wanted = ops.random_words(keys, image, ordinal, words, 2**32 - 5, implementation="torch")
    assert torch.equal(ops.random_words(keys.cuda(), image, ordinal, words, 2**32 - 5).cpu(), wanted)
    assert torch.equal(ops.random_words(keys.cuda(), image.cuda(), ordinal.cuda(), words, 2**32 - 5).cpu(), wanted)


def test_uniforms_and_normals():
    keys = torch.tensor([[7, 8]])
    words = ops.random_words(keys, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), 2000, 0)
    assert torch.equal(ops.uniforms(words.cuda()).cpu(), ops.uniforms(words))
    # Logarithm and cosine of float64 differ in their last bits, and rounding to float32 may fall to either side.
    torch.testing.assert_close(ops.normals(words.cuda()).cpu(), ops.normals(words), rtol=2e-7, atol=1e-12)


@pytest.mark.parametrize(
    ("batch", "rows", "segments", "targets"),
    [(1, 1, 1, 1), (3, 19, 31, 2), (2, 111, 65, 5), (2, 70, 32, 17), (1, 40, 500, 1), (32, 1000, 64, 5), (2, 0, 5, 2)],
)
def test_weighted_gram(batch, rows, segments, targets):
    g = torch.Generator().manual_seed(segments)
    words = -(-segments // 32) + 1
    inputs = [
        torch.randint(-(2**31), 2**31, (batch, rows, words), generator=g).to(torch.int32),
        torch.rand(batch, rows, generator=g),
        torch.randn(batch, rows, targets, generator=g),
        torch.randint(1, segments + 1, (batch,), generator=g),
    ]
    inputs[3][batch // 2] = segments
    loop = ops.weighted_gram(*inputs)
    found = ops.weighted_gram(*(tensor.cuda() for tensor in inputs))
    dense = ops.weighted_gram(*inputs, implementation="torch")
    for name in ("gram", "rhs", "total"):
        got = getattr(found, name).cpu()
        assert torch.equal(got, getattr(loop, name)), name  # one order of addition on both devices
        # at most 1000 float64 terms of order 1, added in another order
        torch.testing.assert_close(got, getattr(dense, name), rtol=0, atol=1e-10)


@pytest.fixture(scope="module")
def crops(photos):
    """One crop 224 x 224 of each photograph of scikit-image: uint8 [4, 3, 224, 224]."""
    pixels = np.stack([picture[50:274, 60:284] for picture in photos.values()])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


@pytest.mark.parametrize("shape", PICTURES, ids=str)
@pytest.mark.parametrize("options", [{}, {"kernel_size": 1.5, "max_dist": 2.5, "ratio": 0.7}], ids=str)
def test_quickshift(scene, shape, options):
    pictures = scene(shape[0], 3, *shape[1:], 1, 0, seed=shape[2]).pictures
    wanted = ops.quickshift(pictures, **options, implementation="torch")
    for laid in (pictures.cuda(), pictures.cuda().contiguous(memory_format=torch.channels_last)):
        assert torch.equal(ops.quickshift(laid, **options).cpu(), wanted)


@pytest.mark.parametrize("kernel_size", [1, 4, 8])
def test_quickshift_of_photographs(crops, kernel_size):
    wanted = ops.quickshift(crops, kernel_size=kernel_size)
    assert torch.equal(ops.quickshift(crops.cuda(), kernel_size=kernel_size).cpu(), wanted)


def slic_agreement(pictures, **options):
    """The share of pixels whose labels are those of the CPU, in the worst picture."""
    got, wanted = ops.slic(pictures.cuda(), **options).cpu(), ops.slic(pictures, **options)
    assert got.dtype == wanted.dtype
    return (got == wanted).double().mean((1, 2)).min().item()


# Lab is rounded otherwise on a GPU: a pixel about as far from two centres may go to the other one.
@pytest.mark.parametrize("shape", PICTURES, ids=str)
@pytest.mark.parametrize("options", [{"segments": 20}, {"segments": 600, "compactness": 1.0, "sigma": 0.8}], ids=str)
def test_slic(scene, shape, options):
    pictures = scene(shape[0], 3, *shape[1:], 1, 0, seed=shape[2]).pictures
    for laid in (pictures, pictures.contiguous(memory_format=torch.channels_last)):
        assert slic_agreement(laid, **options) >= 0.99


@pytest.mark.parametrize("options", [{}, {"segments": 300, "compactness": 1.0, "sigma": 1.5}], ids=str)
def test_slic_of_photographs(crops, options):
    assert slic_agreement(crops, **options) >= 0.99
    together = ops.slic(crops.cuda(), **options)
    assert torch.equal(ops.slic(crops[2:3].cuda(), **options)[0], together[2])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_segment_mean(scene, shape):
    made = scene(*shape)
    for truncate in (False, True):
        wanted = ops.segment_mean(made.pictures, made.labels, made.segments, truncate=truncate)
        got = ops.segment_mean(made.pictures.cuda(), made.labels.cuda(), made.segments, truncate=truncate)
        assert torch.equal(got.cpu(), wanted)
    floats = made.pictures.float() / 37 - 3
    # float64 sums in another order, then one rounding to float32
    torch.testing.assert_close(
        ops.segment_mean(floats.cuda(), made.labels.cuda(), made.segments).cpu(),
        ops.segment_mean(floats, made.labels, made.segments),
        rtol=2e-7,
        atol=1e-12,
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_paint(scene, shape):
    made = scene(*shape)
    weights = normal(shape[0], 3, made.segments)
    assert torch.equal(ops.paint(weights.cuda(), made.labels.cuda()).cpu(), ops.paint(weights, made.labels))


@pytest.mark.parametrize("shape", MASKS, ids=str)
@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 1.0])
def test_rank_mask(shape, fraction):
    for maps in (normal(*shape).relu(), normal(*shape), torch.full(shape, float("nan"))):
        assert torch.equal(ops.rank_mask(maps.cuda(), fraction).cpu(), ops.rank_mask(maps, fraction))


@pytest.mark.parametrize("shape", MASKS, ids=str)
def test_overlap(shape):
    a, b = normal(*shape) > 0.5, normal(*shape, seed=1) > 0.2
    a[0], b[0] = False, False
    for got, wanted in zip(ops.overlap(a.cuda(), b.cuda()), ops.overlap(a, b), strict=True):
        assert torch.equal(got.isnan().cpu(), wanted.isnan())
        assert torch.equal(got.nan_to_num().cpu(), wanted.nan_to_num())


@pytest.mark.parametrize(
    ("size", "native"), [((1, 1), (3, 5)), ((19, 111), (1, 1)), ((224, 224), (7, 7)), ((5, 4), (9, 8))]
)
def test_upsample(size, native):
    maps = normal(3, 2, *native)
    # float32 interpolation of numbers of order 1; the order of its operations is the device's
    torch.testing.assert_close(ops.upsample(maps.cuda(), size).cpu(), ops.upsample(maps, size), rtol=0, atol=2e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_normalize(scene, shape):
    made = scene(*shape)
    got = ops.normalize(made.pictures.cuda(), made.mean, made.std)
    assert torch.equal(got.cpu(), ops.normalize(made.pictures, made.mean, made.std))


def test_add_rows():
    rows, image = normal(37, 3, 19), torch.arange(37) % 5
    wanted = ops.add_rows_(torch.zeros(5, 3, 19), image, rows)
    for index in (image.cuda(), image):  # an index on the host is not waited for
        assert torch.equal(ops.add_rows_(torch.zeros(5, 3, 19).cuda(), index, rows.cuda()).cpu(), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_blend_rows(dtype):
    pictures, fill, image = normal(2, 3, 19, 23), normal(2, 3), torch.arange(9) % 2
    masks = normal(9, 19, 23).abs().clamp_max(1.0)
    wanted = ops.blend_rows(pictures, masks, image, fill, dtype=dtype)
    for index in (image.cuda(), image):
        found = ops.blend_rows(pictures.cuda(), masks.cuda(), index, fill.cuda(), dtype=dtype)
        assert torch.equal(found.cpu(), wanted)
