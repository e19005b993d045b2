"""A folder with a picture of every map: which there are, what they are called, and what their colours mean."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastxai.errors import ArgumentError, CannotRun
from fastxai.report import write_maps
from fastxai.report.maps import coloured
from fastxai.results import Found


@dataclass
class InMemory:
    """Results in hand as a run that is read one image at a time."""

    found: Found
    path: Path

    @property
    def methods(self) -> list[str]:
        return list(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def positions(self, ids: Sequence[str]) -> list[int]:
        return [self.found.ids.index(image) for image in ids]

    def read(self, start: int, stop: int, *, methods: Sequence[str]) -> Found:
        assert stop == start + 1  # however many there are
        rows = ("ids", "digests", "errors", "status", "sizes", "crops", "labels", "images", "targets", "predictions")
        one = {name: getattr(self.found, name)[start:stop] for name in (*rows, "probabilities")}
        return replace(self.found, **one, methods={name: self.found[name][start:stop] for name in methods})


def read_list(folder: Path) -> list[dict[str, str]]:
    with open(folder / "maps.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_picture_for_each_image_target_and_method(build: Any, tmp_path: Path) -> None:
    found = build(size=(40, 56), targets=2)
    seen: list[tuple[int, int]] = []
    run = InMemory(found, tmp_path / "run")
    out = write_maps(run, tmp_path / "maps", progress=lambda *done: seen.append(done))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    rows = read_list(out)
    assert len(rows) == 4 * 2 * 3
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.png")} == {row["file"] for row in rows}
    assert rows[0]["file"] == "lime/0000-chelsea-target0.png"
    assert rows[0]["class_name"] == "Egyptian cat"
    for row in rows:
        with Image.open(out / row["file"]) as picture:
            assert picture.size == (56, 40)
            about = json.loads(picture.text["fastxai"])
            assert {key: str(value) for key, value in about.items()} == row
            i, k = found.ids.index(row["image"]), int(row["target"])
            values = found[row["method"]].maps[i, k]
            wanted, limit = coloured(values, positive=row["method"] == "gradcam")
            assert float(row["limit"]) == limit
            np.testing.assert_array_equal(np.asarray(picture), wanted)


def test_colours_say_sign_and_size() -> None:
    values = torch.tensor([[-2.0, 0.0, 2.0], [float("nan"), 1.0, -1.0]])
    shown, limit = coloured(values, positive=False)
    assert limit == pytest.approx(2.0, rel=0.05)  # the 99th percentile of five numbers lies just below the largest
    blue, white, red = (shown[0, place].astype(int) for place in range(3))
    assert blue[2] > blue[0] + 50
    assert red[0] > red[2] + 50
    assert white.min() > 240
    assert shown[1, 0].tolist() == [128, 128, 128]
    ramp, top = coloured(torch.linspace(0, 1, 9).reshape(1, 9), positive=True)
    assert top == 1.0
    assert (np.diff(ramp.astype(int).sum(-1)[0]) > 0).all()  # brighter is more
    assert coloured(torch.zeros(2, 2), positive=False)[0].min() > 240
    assert coloured(torch.full((2, 2), float("nan")), positive=True)[0].max() == 128


@pytest.mark.parametrize("name", ["../../etc/passwd.png", "/abs.png", "a\nb\\c\0.png", "..", "<script>.png", "ü" * 300])
def test_names_are_safe_whatever_an_id_holds(build: Any, tmp_path: Path, name: str) -> None:
    found = build(ids=[name], size=(8, 8), methods=("gradcam",))
    out = write_maps(InMemory(found, tmp_path / "run"), tmp_path / "maps")
    (row,) = read_list(out)
    assert row["image"] == name
    (file,) = out.rglob("*.png")
    assert file.parent == out / "gradcam"
    assert file.name.startswith("0000")
    assert file.name.isprintable()


def test_failed_images_have_none_and_parts_can_be_asked_for(failed: Found, tmp_path: Path) -> None:
    run = InMemory(failed, tmp_path / "run")
    out = write_maps(run, tmp_path / "maps", methods=["gradcam"])
    assert [row["image"] for row in read_list(out)] == ["chelsea.png", "rocket.jpg", "astronaut.png"]
    assert [path.name for path in out.iterdir() if path.is_dir()] == ["gradcam"]
    one = write_maps(run, tmp_path / "one", ids=["rocket.jpg"], methods=["gradcam"])
    assert [row["file"] for row in read_list(one)] == ["gradcam/0002-rocket.png"]


def test_wrong_arguments_leave_nothing(found: Found, tmp_path: Path) -> None:
    run = InMemory(found, tmp_path / "run")
    (tmp_path / "there").mkdir()
    with pytest.raises(ArgumentError, match="out must be a new file"):
        write_maps(run, tmp_path / "there")
    with pytest.raises(ArgumentError, match="methods must be among lime, gradient-shap, gradcam, got 'shap'"):
        write_maps(run, tmp_path / "maps", methods=["shap"])
    with pytest.raises(ArgumentError, match="RUN must hold images"):
        write_maps(run, tmp_path / "maps", ids=[])

    def full(done: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(CannotRun, match="maps cannot be written: No space left on device"):
        write_maps(run, tmp_path / "maps", progress=full, methods=["gradcam"])
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
