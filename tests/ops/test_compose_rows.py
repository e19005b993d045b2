"""compose_rows: every form against a twin that goes pixel by pixel, exactly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.ops import compose_rows

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# batch, channels, height, width, segments, rows
SHAPES = [
    (1, 3, 1, 1, 1, 1),
    (2, 3, 7, 19, 5, 9),
    (3, 1, 4, 111, 33, 4),
    (2, 4, 5, 8, 64, 3),
    (1, 3, 16, 16, 500, 37),
    (2, 3, 3, 3, 2, 0),
]


def twin(scene, pictures, fill, dtype):
    """Naive: one pixel at a time, in Python, one float32 step after the other."""
    rows, (_, channels, height, width) = scene.image.shape[0], pictures.shape
    out = torch.empty(rows, channels, height, width)
    for r in range(rows):
        b = int(scene.image[r])
        for y in range(height):
            for x in range(width):
                s = int(scene.labels[b, y, x])
                kept = (int(scene.coalitions[r, s // 32]) & 0xFFFFFFFF) >> (s % 32) & 1
                colour = fill if fill.dim() == 1 else fill[b, s]
                out[r, :, y, x] = pictures[b, :, y, x].float() if kept else colour
    if pictures.dtype == torch.uint8:
        mean = torch.tensor(scene.mean).view(1, -1, 1, 1)
        std = torch.tensor(scene.std).view(1, -1, 1, 1)
        out = (out / torch.tensor(255.0) - mean) / std
    return out.to(dtype)


def run(scene, pictures, fill, dtype, last, implementation):
    return compose_rows(
        pictures,
        scene.labels,
        scene.coalitions,
        scene.image,
        fill,
        mean=scene.mean,
        std=scene.std,
        dtype=dtype,
        channels_last=last,
        implementation=implementation,
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("implementation", ["torch", "numba"])
def test_equals_the_twin(scene, shape, dtype, implementation):
    made = scene(*shape)
    normal = torch.randn(made.pictures.shape, generator=torch.Generator().manual_seed(1))
    for pictures in (made.pictures, normal):
        for fill in (made.colour, made.colours):
            wanted = twin(made, pictures, fill, dtype)
            for last in (True, False):
                got = run(made, pictures, fill, dtype, last, implementation)
                layout = torch.channels_last if last else torch.contiguous_format
                assert got.is_contiguous(memory_format=layout)
                assert got.dtype == dtype
                assert torch.equal(got, wanted)


# Each shape stores 16, 8, 4 or 2 bytes at a time; building the source for the host takes a second a case.
@pytest.mark.parametrize(
    ("shape", "dtype", "last", "bytes_", "per_segment"),
    [
        ((2, 3, 4, 8, 40, 37), torch.bfloat16, True, True, False),
        ((2, 3, 4, 8, 40, 37), torch.float16, False, True, True),
        ((2, 3, 4, 8, 500, 17), torch.float32, True, True, True),
        ((2, 3, 4, 8, 500, 17), torch.float32, False, False, False),
        ((3, 3, 7, 19, 1, 5), torch.bfloat16, True, False, True),
        ((2, 1, 6, 18, 33, 16), torch.float16, True, True, False),
        ((1, 3, 1, 2, 2, 0), torch.float16, True, True, False),
    ],
    ids=str,
)
def test_kernel_equals_the_twin(scene, host_gpu, shape, dtype, last, bytes_, per_segment):
    made = scene(*shape)
    pictures = made.pictures if bytes_ else made.pictures.float() / 37 - 3
    fill = made.colours if per_segment else made.colour
    got = run(made, pictures, fill, dtype, last, "cuda")
    assert torch.equal(got, twin(made, pictures, fill, dtype))
    assert host_gpu == ["compose_rows"] * (shape[-1] > 0)


@pytest.mark.parametrize("width", [1, 19, 111, 989])
@pytest.mark.parametrize("implementation", ["numba", "cuda"])
def test_awkward_widths(scene, host_gpu, width, implementation):
    made = scene(2, 3, 5, width, 40, 20, seed=width)
    wanted = run(made, made.pictures, made.colour, torch.bfloat16, True, "torch")
    assert torch.equal(run(made, made.pictures, made.colour, torch.bfloat16, True, implementation), wanted)


@pytest.mark.parametrize("implementation", ["torch", "numba", "cuda"])
def test_inputs_need_not_be_contiguous(scene, host_gpu, implementation):
    made = scene(2, 3, 12, 10, 20, 6)
    wanted = run(made, made.pictures, made.colours, torch.float16, True, "torch")
    made.pictures = made.pictures.to(memory_format=torch.channels_last)
    made.labels = made.labels.transpose(1, 2).contiguous().transpose(1, 2)
    made.coalitions = made.coalitions.t().contiguous().t()
    made.image = torch.stack((made.image, made.image), 1)[:, 0]
    made.colours = made.colours.transpose(1, 2).contiguous().transpose(1, 2)
    assert not made.labels.is_contiguous()
    assert torch.equal(run(made, made.pictures, made.colours, torch.float16, True, implementation), wanted)


def test_a_row_does_not_depend_on_its_neighbours(scene):
    made = scene(3, 3, 9, 9, 12, 10)
    together = run(made, made.pictures, made.colour, torch.bfloat16, True, None)
    for r in range(10):
        alone = compose_rows(
            made.pictures,
            made.labels,
            made.coalitions[r : r + 1],
            made.image[r : r + 1],
            made.colour,
            mean=made.mean,
            std=made.std,
            dtype=torch.bfloat16,
        )
        assert torch.equal(alone[0], together[r])


def test_all_and_none(scene):
    made = scene(1, 3, 6, 6, 32, 2)
    made.coalitions = torch.tensor([[-1], [0]], dtype=torch.int32)
    got = run(made, made.pictures.float(), made.colour, torch.float32, True, None)
    assert torch.equal(got[0], made.pictures[0].float())
    assert torch.equal(got[1], made.colour[:, None, None].expand(3, 6, 6))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    shape=st.tuples(
        st.integers(1, 3),
        st.integers(1, 4),
        st.integers(1, 9),
        st.integers(1, 20),
        st.integers(1, 70),
        st.integers(1, 6),
    ),
    dtype=st.sampled_from(DTYPES),
    last=st.booleans(),
    per_segment=st.booleans(),
    bytes_=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_numba_holds_to_the_reference(scene, shape, dtype, last, per_segment, bytes_, seed):
    made = scene(*shape, seed=seed)
    pictures = made.pictures if bytes_ else made.pictures.float() / 37 - 3
    fill = made.colours if per_segment else made.colour
    assert torch.equal(run(made, pictures, fill, dtype, last, "numba"), run(made, pictures, fill, dtype, last, "torch"))


def test_threads_do_not_matter(scene):
    made = scene(2, 3, 17, 23, 30, 11)
    threads = torch.get_num_threads()
    try:
        got = []
        for count in (1, 2):
            torch.set_num_threads(count)
            got.append(run(made, made.pictures, made.colours, torch.bfloat16, True, "numba"))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*got)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pictures": torch.zeros(2, 3, 4, 5)[0]}, r"pictures must be uint8 or float32 \[B, C, H, W\], got float32"),
        ({"pictures": torch.zeros(2, 3, 4, 5, dtype=torch.float64)}, "pictures must be uint8 or float32"),
        ({"labels": torch.zeros(2, 4, 5, dtype=torch.int64)}, "labels must be int32"),
        ({"labels": torch.zeros(2, 4, 6, dtype=torch.int32)}, r"labels must be int32 \[B=2, H=4, W=5\]"),
        ({"labels": torch.full((2, 4, 5), 32, dtype=torch.int32)}, r"labels must be between 0 and 31 \(bits"),
        ({"labels": torch.full((2, 4, 5), -1, dtype=torch.int32)}, "labels must be between 0 and 31"),
        ({"coalitions": torch.zeros(3, 1)}, "coalitions must be int32"),
        ({"image": torch.tensor([0, 1, 2])}, "image must be between 0 and 1, got values from 0 to 2"),
        ({"image": torch.tensor([0, -1, 1])}, "image must be between 0 and 1"),
        ({"image": torch.tensor([0, 1])}, r"image must be int64 \[R=3\]"),
        ({"fill": torch.zeros(2)}, r"fill must be float32 \[C=3\]"),
        ({"fill": torch.zeros(2, 2, 3)}, r"labels must be between 0 and 1 \(colours of fill\)"),
        ({"mean": (0.5,)}, "mean must have one number per channel"),
        ({"std": (0.5, 0.0, 0.5)}, "std must be positive"),
        ({"dtype": torch.float64}, "dtype must be float32, float16 or bfloat16"),
        ({"implementation": "fast"}, "implementation must be one of torch, numba, cuda"),
    ],
)
def test_wrong_arguments(change, message):
    arguments = {
        "pictures": torch.zeros(2, 3, 4, 5, dtype=torch.uint8),
        "labels": torch.full((2, 4, 5), 2, dtype=torch.int32),
        "coalitions": torch.zeros(3, 1, dtype=torch.int32),
        "image": torch.tensor([0, 1, 0]),
        "fill": torch.zeros(3),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "dtype": torch.float32,
    }
    compose_rows(**arguments)
    with pytest.raises(ArgumentError, match=message):
        compose_rows(**{**arguments, **change})


def test_other_types_and_devices(scene):
    made = scene(1, 3, 4, 4, 3, 2)
    with pytest.raises(ArgumentTypeError, match="labels must be a tensor, got ndarray"):
        compose_rows(
            made.pictures,
            made.labels.numpy(),
            made.coalitions,
            made.image,
            made.colour,
            mean=made.mean,
            std=made.std,
            dtype=torch.float32,
        )
    made.labels = made.labels.to("meta")
    with pytest.raises(ArgumentError, match="labels must be on cpu like pictures, got meta"):
        run(made, made.pictures, made.colour, torch.float32, True, None)


def test_labels_changed_in_place_are_checked_again(scene):
    made = scene(1, 3, 4, 4, 3, 2)
    run(made, made.pictures, made.colour, torch.float32, True, None)
    made.labels[0, 0, 0] = 99
    with pytest.raises(ArgumentError, match="labels must be between 0 and 31"):
        run(made, made.pictures, made.colour, torch.float32, True, None)


def test_under_inference_mode(scene):
    made = scene(1, 3, 4, 4, 3, 2)
    wanted = run(made, made.pictures, made.colour, torch.float32, True, "torch")
    with torch.inference_mode():
        made.labels = made.labels.clone()
        assert torch.equal(run(made, made.pictures, made.colour, torch.float32, True, None), wanted)
