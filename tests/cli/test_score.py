"""`fastxai score` on a small run."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from PIL import Image

import fastxai as fx
from fastxai.cli import main
from fastxai.models import Model

FLAGS = ["-m", "deletion:steps=4", "-m", "mu-fidelity:samples=5", "--device", "cpu"]


@pytest.fixture(scope="module")
def out(convolutional: Model, noise_pictures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for index, picture in enumerate(noise_pictures(3)):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{index}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    methods = (fx.Lime(samples=20, segments=fx.Grid(3, 3)), fx.GradCam())
    out = tmp_path_factory.mktemp("runs") / "run"
    fx.run(convolutional, folder, methods, out=out, settings=fx.Settings(precision="fp32")).close()
    return out


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch, convolutional: Model) -> list[tuple]:
    """The small model, whatever is named; the list holds what was."""
    asked: list[tuple] = []

    def load_model(spec, weights=None, device="auto"):
        asked.append((spec, weights, device))
        return convolutional

    monkeypatch.setattr("fastxai.models.load_model", load_model)
    return asked


def test_the_table_and_the_file(out: Path, capsys: pytest.CaptureFixture[str], loaded: list[tuple]) -> None:
    assert main(["score", str(out), *FLAGS, "--model", "timm:x", "--weights", "w.pt"]) == 0
    captured = capsys.readouterr()
    assert loaded == [("timm:x", "w.pt", "cpu")]
    assert "deletion: area under the score" in captured.out
    assert captured.out.splitlines()[-1] == f"scores: {out / 'scores.json'}"
    assert "1 more could not be scored" in captured.out
    assert "3/3 images" in captured.err.splitlines()[-1]
    with fx.open_run(out) as run:
        there = fx.read_scores(run)
        assert there is not None and str(there) in captured.out


def test_json_and_csv(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "kept.json"
    argv = ["score", str(out), *FLAGS, "--quiet", "--out", str(kept)]
    assert main([*argv, "--json"]) == 0
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert captured.err == ""
    assert data["images"] == ["0.png", "1.png", "2.png"]
    assert json.loads(kept.read_text())["values"] == data["values"]
    assert main([*argv, "--csv", "--ids", "2.png", "--methods", "gradcam"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["image"], row["method"]) for row in rows] == [("2.png", "gradcam"), ("2.png", "random")]
    assert float(rows[0]["deletion"]) == data["values"]["deletion"]["images"]["gradcam"][2]


def test_another_reference(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["score", str(out), *FLAGS, "--quiet", "-o", str(tmp_path / "kept.json"), "--json", "--images", "1"]
    assert main([*argv, "--reference", "random:segments=grid(rows=3,columns=3),name=cells"]) == 0
    assert json.loads(capsys.readouterr().out)["reference"] == "cells"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-m", "deletions"], "measure must be one of aopc, deletion"),
        (["-m", "deletion:step=3"], "got 'step'"),
        (["--methods", "shap"], "method must be one of lime, gradcam, got 'shap'"),
        (["--ids", "x.png"], "ids must be those of images"),
        (["--images", "0"], "images must be at least 1"),
        (["--reference", "lime"], "--reference must be random"),
        (["--ids", "a", "--images", "2"], "not allowed with"),
        (["--json", "--csv"], "not allowed with"),
    ],
)
def test_wrong_arguments(out: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(out), *flags]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]


def test_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(tmp_path)]) == 2
    assert "RUN must be a folder with a run.json" in capsys.readouterr().err


def test_the_defaults_are_those_of_the_library() -> None:
    from fastxai.cli.score import MEASURES
    from fastxai.scoring import DEFAULT

    assert MEASURES == DEFAULT  # the command line says them without loading torch
