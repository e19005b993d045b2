"""What a large run is said to need."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastxai.cli import forecast
from fastxai.explainers import GradCam, GradientShap, Lime
from fastxai.segments import Grid
from fastxai.types import Preprocess

PREPROCESS = Preprocess(size=(10, 20), resize=None)
PIXELS = 200


def test_bytes_count_maps_labels_and_pixels() -> None:
    methods = [Lime(segments=Grid()), Lime(segments=Grid(), name="again"), GradCam()]
    full = forecast.bytes_per_image(methods, PREPROCESS, targets=2, pixels=True, compact=False)
    # three maps of two targets in float32, the labels of one segmenter in uint16, RGB
    assert full == 3 * 2 * 4 * PIXELS + 2 * PIXELS + 3 * PIXELS
    # LIME and CAM maps can be rebuilt
    assert forecast.bytes_per_image(methods, PREPROCESS, targets=2, pixels=False, compact=True) == 2 * PIXELS


def test_attributions_count_where_they_are_asked_for() -> None:
    method = GradientShap(attributions=True)
    assert forecast.bytes_per_image([method], PREPROCESS, targets=1, pixels=False, compact=False) == 4 * 4 * PIXELS


def test_only_large_runs_are_announced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forecast.announce(10, 1000, tmp_path / "not" / "yet")
    assert capsys.readouterr().err == ""
    forecast.announce(5000, 1_000_000, tmp_path / "not" / "yet")
    line = capsys.readouterr().err
    assert "5000 images, at most 5.0 GB on disk" in line
    assert "are free" in line
