"""blend_rows: every form against a twin that goes pixel by pixel, exactly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.ops import blend_rows

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# batch, channels, height, width, rows
SHAPES = [(1, 3, 1, 1, 1), (2, 3, 7, 19, 9), (3, 1, 4, 111, 4), (2, 4, 5, 8, 3), (1, 3, 16, 16, 37), (2, 3, 3, 3, 0)]


def scene(batch, channels, height, width, rows, seed=0):
    g = torch.Generator().manual_seed(seed)
    return {
        "pictures": torch.randn(batch, channels, height, width, generator=g) * 3,
        "masks": torch.rand(rows, height, width, generator=g),
        "image": torch.randint(0, batch, (rows,), generator=g),
        "fill": torch.randn(batch, channels, generator=g),
    }


def twin(pictures, masks, image, fill, dtype):
    """Naive: one number at a time, in Python, one float32 step after the other."""
    rows, (_, channels, height, width) = len(image), pictures.shape
    out, one = torch.empty(rows, channels, height, width), torch.tensor(1.0)
    for r in range(rows):
        b = int(image[r])
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    m = masks[r, y, x]
                    out[r, c, y, x] = m * pictures[b, c, y, x] + (one - m) * fill[b, c]
    return out.to(dtype)


@pytest.mark.parametrize("implementation", ["torch", "numba"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_the_naive_twin(shape, dtype, implementation):
    given = scene(*shape)
    out = blend_rows(**given, dtype=dtype, implementation=implementation)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert out.dtype == dtype
    assert torch.equal(out, twin(**given, dtype=dtype))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 40),
    rows=st.integers(0, 5),
    ways=st.tuples(*[st.integers(0, 3)] * 4),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**31),
)
def test_forms_agree_in_any_layout(relaid, batch, channels, height, width, rows, ways, dtype, seed):
    given = scene(batch, channels, height, width, rows, seed)
    wanted = blend_rows(**given, dtype=dtype, implementation="torch")
    moved = {name: relaid(value, way) for (name, value), way in zip(given.items(), ways, strict=True)}
    for implementation in ("torch", "numba"):
        assert torch.equal(blend_rows(**moved, dtype=dtype, implementation=implementation), wanted)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ends_are_exact_and_what_is_not_finite_stays_so(dtype):
    given = scene(1, 3, 2, 8, 1)
    for share, shown in ((1.0, given["pictures"]), (0.0, given["fill"].reshape(1, 3, 1, 1).expand(1, 3, 2, 8))):
        given["masks"].fill_(share)
        assert torch.equal(blend_rows(**given, dtype=dtype), shown.to(dtype))
    given["masks"].fill_(1.0)
    given["pictures"][0, :, 0, :4] = torch.tensor([float("nan"), float("inf"), float("-inf"), 3.4e38])
    # NaN with all bits set, which rounding by an addition would turn into a number
    given["pictures"][0, 0, 0, 0] = torch.tensor(-1, dtype=torch.int32).view(torch.float32)
    out = blend_rows(**given, dtype=dtype).float()
    assert torch.equal(out.isnan(), given["pictures"].isnan())
    wanted = blend_rows(**given, dtype=dtype, implementation="torch").float()
    assert torch.equal(out.nan_to_num(7), wanted.nan_to_num(7))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"pictures": torch.zeros(2, 3, 4, 5, dtype=torch.uint8)}, ArgumentError, "pictures must be float32"),
        ({"masks": torch.zeros(2, 4, 6)}, ArgumentError, r"masks must be float32 \[R, H=4, W=5\]"),
        ({"masks": [0.0]}, ArgumentTypeError, "masks must be a tensor, got list"),
        ({"image": torch.tensor([0])}, ArgumentError, "image must be int64"),
        ({"image": torch.tensor([0, 2])}, ArgumentError, "image must be between 0 and 1"),
        ({"fill": torch.zeros(3)}, ArgumentError, "fill must be float32"),
        ({"fill": torch.zeros(2, 3, device="meta")}, ArgumentError, "fill must be on cpu like pictures, got meta"),
        ({"dtype": torch.float64}, ArgumentError, "dtype must be float32, float16 or bfloat16"),
        ({"implementation": "cuda"}, ArgumentError, "implementation must be one of torch, numba, got 'cuda'"),
    ],
)
def test_wrong_arguments(change, error, message):
    arguments = {**scene(2, 3, 4, 5, 2), "dtype": torch.float32}
    blend_rows(**arguments)
    with pytest.raises(error, match=message):
        blend_rows(**{**arguments, **change})
