"""add_rows_: in row order, to the last bit."""

from __future__ import annotations

import pytest
import torch

from fastxai.errors import ArgumentError
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": torch.tensor([0, 2])}, "image must be between 0 and 1"),
        ({"image": torch.tensor([0])}, "rows must be float32"),
        ({"rows": torch.zeros(2, 4)}, "rows must be float32"),
        ({"sums": torch.zeros(2, 3).double()}, "sums must be float32"),
    ],
)
def test_wrong_arguments(change, message):
    arguments = {"sums": torch.zeros(2, 3), "image": torch.tensor([0, 1]), "rows": torch.zeros(2, 3)}
    add_rows_(**arguments)
    with pytest.raises(ArgumentError, match=message):
        add_rows_(**{**arguments, **change})
