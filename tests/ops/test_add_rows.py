"""add_rows_: in row order, to the last bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.ops import add_rows_


@pytest.mark.parametrize("shape", [(1,), (19,), (3, 111), (5, 3, 64, 64)], ids=str)
def test_adds_one_row_after_the_other(shape):
    g = torch.Generator().manual_seed(0)
    rows, image = torch.randn(40, *shape, generator=g), torch.randint(0, 3, (40,), generator=g)
    wanted = torch.zeros(3, *shape)
    for r in range(40):
        wanted[image[r]] = wanted[image[r]] + rows[r]
    assert torch.equal(add_rows_(torch.zeros(3, *shape), image, rows), wanted)
    for cut in (1, 7, 16):
        sums = torch.zeros(3, *shape)
        for start in range(0, 40, cut):
            assert add_rows_(sums, image[start : start + cut], rows[start : start + cut]) is sums
        assert torch.equal(sums, wanted)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    batch=st.integers(0, 4),
    rows=st.integers(0, 12),
    shape=st.lists(st.integers(0, 7), max_size=3),
    ways=st.tuples(*[st.integers(0, 3)] * 3),
    seed=st.integers(0, 2**31),
)
def test_order_holds_in_any_layout(relaid, batch, rows, shape, ways, seed):
    rows = rows if batch else 0
    g = torch.Generator().manual_seed(seed)
    image = torch.randint(0, max(batch, 1), (rows,), generator=g)
    values = torch.randn(rows, *shape, generator=g) * 10.0 ** torch.randint(
        -6, 6, (rows, *[1] * len(shape)), generator=g
    )
    start = torch.randn(batch, *shape, generator=g)
    wanted = start.numpy().copy()
    for r, b in enumerate(image.tolist()):
        wanted[b] = wanted[b] + values[r].numpy()
    sums = relaid(start, ways[0])
    assert add_rows_(sums, relaid(image, ways[1]), relaid(values, ways[2])) is sums
    assert torch.equal(sums, torch.from_numpy(wanted))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"image": torch.tensor([0, 2])}, ArgumentError, "image must be between 0 and 1"),
        ({"image": torch.tensor([-1, 0])}, ArgumentError, "image must be between 0 and 1, got values from -1 to 0"),
        ({"image": torch.tensor([0])}, ArgumentError, r"rows must be float32 \[R=1, d1=3\]"),
        ({"image": torch.tensor([0, 1], dtype=torch.int32)}, ArgumentError, "image must be int64"),
        ({"image": torch.tensor([0, 1], device="meta")}, ArgumentError, "image must be on cpu like sums, got meta"),
        ({"image": [0, 1]}, ArgumentTypeError, "image must be a tensor, got list"),
        ({"rows": torch.zeros(2, 4)}, ArgumentError, "rows must be float32"),
        ({"rows": torch.zeros(2, 3).half()}, ArgumentError, "rows must be float32"),
        ({"rows": torch.zeros(2, 3, device="meta")}, ArgumentError, "rows must be on cpu like sums, got meta"),
        ({"sums": torch.zeros(2, 3).double()}, ArgumentError, "sums must be float32"),
        ({"sums": torch.tensor(0.0)}, ArgumentError, r"sums must be float32 \[B\], got float32 \[\]"),
        ({"sums": torch.zeros(2, 3, device="meta")}, ArgumentError, "sums must be on a device that holds values"),
        ({"sums": [[0.0]]}, ArgumentTypeError, "sums must be a tensor, got list"),
    ],
)
def test_wrong_arguments(change, error, message):
    arguments = {"sums": torch.zeros(2, 3), "image": torch.tensor([0, 1]), "rows": torch.zeros(2, 3)}
    add_rows_(**arguments)
    with pytest.raises(error, match=message):
        add_rows_(**{**arguments, **change})
