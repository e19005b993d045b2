"""Both studies end to end on noise pictures and a tiny network: files, figures, and figures that fit together."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ROOT / "scripts" / "_studies"
SMALL = """
import torch
from torch import nn
from fastxai.types import Preprocess

def model():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU()
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 6))
    return module, Preprocess((96, 96), None, "bilinear", (0.5,) * 3, (0.25,) * 3)
"""
FLAGS = ("--device", "cpu", "--precision", "fp32", "--compile", "off", "--samples", "40")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and nine pictures, of more and more blocks of colour, one of them broken."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "small.py").write_text(SMALL)
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(8):
        blocks = rng.integers(0, 256, (3 + number, 3 + number, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((96, 96), Image.Resampling.NEAREST).save(folder / "photos" / f"{number}.png")
    (folder / "photos" / "broken.png").write_bytes(b"no picture")
    return folder


def study(name: str, place: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(place)])
    return subprocess.run(
        [sys.executable, STUDIES / f"{name}.py", *argv],
        capture_output=True,
        text=True,
        cwd=place,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_the_agreement_study(place: Path) -> None:
    options = ("--model", "small:model", "--out", "agreement", "--top-segments", "3", "--figures", "2", *FLAGS)
    done = study("agreement", place, "photos", *options)
    assert done.returncode == 3, done.stderr  # one picture is broken
    record = json.loads((place / "agreement" / "study.json").read_text())
    assert record["failures"].keys() == {"broken.png"}
    assert record["left_out"] == {"failed": 1}
    assert record["rules"] == {"lime": "top 3 segments", "gradcam": "top 20% of pixels"}
    images = record["images"]
    assert len(images) == record["iou"]["count"] == 8
    assert record["iou"]["mean"] == pytest.approx(np.mean([image["iou"] for image in images]), abs=1e-12)
    low, high = record["iou"]["interval"]
    assert low < record["iou"]["mean"] < high
    for trait in ("edge_density", "colour_entropy", "segments", "confidence"):
        columns = [[image[name] for image in images] for name in (trait, "iou")]
        found = record["relations"][trait]
        assert found["rho"] == pytest.approx(stats.spearmanr(*columns).statistic, abs=1e-12)
        assert found["interval"][0] <= found["rho"] <= found["interval"][1]
    with (place / "agreement" / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["iou"]) for row in rows] == [image["iou"] for image in images]
    assert len(list((place / "agreement" / "figures").glob("*.png"))) == 2
    with Image.open(place / "agreement" / "relations.png") as figure:
        assert figure.width > 1500
    assert "mean" in done.stdout
    assert "undecided: the interval holds 0" in done.stdout or "where there is more of it" in done.stdout
    again = study("agreement", place, "photos", *options)
    assert again.returncode == 2
    assert "study_agreement: --out must be a new or empty folder, got 'agreement'" in again.stderr


def test_the_study_of_lime_and_shap(place: Path) -> None:
    models = ("--model", "small:model", "--shap-model", "small:model", "--shap-samples", "4")
    done = study("lime_steps", place, "photos/0.png", "photos/3.png", *models, "--out", "steps", *FLAGS)
    assert done.returncode == 0, done.stderr
    record = json.loads((place / "steps" / "study.json").read_text())
    assert record["lime"]["size"] == [96, 96]
    assert record["shap"]["explainer"]["baseline"] == "black"
    assert record["shap"]["explainer"]["samples"] == 4
    for image in record["lime"]["images"]:
        weights = [abs(one["weight"]) for one in image["most_influential"]]
        assert len(weights) == min(10, image["segments"])
        assert weights == sorted(weights, reverse=True)
        assert len(image["predictions"]) == 5
        assert image["samples"] == 40
    for image in record["shap"]["images"]:
        assert image["sum"] is not None
        assert image["delta"] is not None
    figures = sorted(path.name for path in (place / "steps" / "figures").glob("*.png"))
    assert figures == ["0000-0-lime.png", "0000-0-shap.png", "0001-3-lime.png", "0001-3-shap.png"]
    assert "most influential: " in done.stdout


@pytest.mark.parametrize("name", ["agreement", "lime_steps"])
def test_help_needs_no_environment(name: str) -> None:
    """Isolated and without site packages: the standard library alone."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", STUDIES / f"{name}.py", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"scripts/study_{name}" in done.stdout


def test_what_cannot_be_is_one_line(place: Path) -> None:
    done = study("agreement", place, "nowhere", "--out", "none", "--model", "small:model", *FLAGS)
    assert done.returncode == 2
    assert done.stderr.startswith("study_agreement: ")
    assert len(done.stderr.splitlines()) == 1
