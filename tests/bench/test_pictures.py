"""Picture files: as many distinct ones as asked for."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fastxai.bench.pictures import MOST, SIDE, crops, decoded, put_pictures
from fastxai.errors import ArgumentError
from fastxai.types import Preprocess


def test_crops_are_distinct_and_always_the_same():
    first, again = crops(40), crops(20)
    assert len({crop.tobytes() for crop in first}) == 40
    assert all(crop.shape == (SIDE, SIDE, 3) for crop in first)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=False))
    with pytest.raises(ArgumentError, match="name IMAGES"):
        crops(MOST + 1)


def test_given_files_are_used_over_again(tmp_path):
    for value in (10, 20):
        Image.fromarray(np.full((30, 40, 3), value, np.uint8)).save(tmp_path / f"{value}.png")
    paths, distinct = put_pictures(tmp_path / "out", 5, [str(tmp_path / "10.png"), str(tmp_path / "20.png")])
    assert distinct == 2
    pixels = decoded(paths, Preprocess((24, 24), 24))
    assert pixels.shape == (5, 3, 24, 24)
    assert pixels[:, 0, 0, 0].tolist() == [10, 20, 10, 20, 10]


def test_files_that_are_no_pictures(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no picture")
    paths, _ = put_pictures(tmp_path / "out", 1, str(tmp_path / "x.png"))
    with pytest.raises(ArgumentError, match="IMAGES must be pictures"):
        decoded(paths, Preprocess((24, 24), 24))
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(ArgumentError, match="IMAGES must be readable"):
        put_pictures(tmp_path / "again", 1, str(tmp_path / "x.png"))
