"""`fastxai agree` on a run of small noise pictures: pairs, matrix, groups, measures, and maps from elsewhere."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import fastxai as fx
from fastxai.cli import main
from fastxai.models import Model

Pictures = Callable[[int], torch.Tensor]


@pytest.fixture(scope="module")
def run(convolutional: Model, noise_pictures: Pictures, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("runs") / "noise"
    explainers = [fx.Lime(samples=40, segments=fx.Grid(rows=4, columns=4)), fx.GradCam(), fx.Saliency()]
    fx.run(convolutional, noise_pictures(6), explainers, out=out, labels=[0, 1, 0, 1, 0, 5])
    return str(out)


def said(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(argv) == 0
    return capsys.readouterr().out


def test_all_methods_make_a_matrix(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(["agree", run], capsys)
    head = next(line for line in text.splitlines() if line.startswith("mean IoU"))
    assert head.split()[2:] == ["lime", "gradcam", "saliency"]
    data = json.loads(said(["agree", run, "--json", "--measures", "all"], capsys))
    assert data["names"] == ["lime", "gradcam", "saliency"]
    opened = fx.open_run(run)
    wanted = fx.agreement(opened, "gradcam", "saliency", measures="all")
    last = data["pairs"][-1]
    assert (last["first"], last["second"]) == ("gradcam", "saliency")
    for name in wanted.measures:
        assert last[name]["mean"] == wanted.summary(name).mean
    assert set(last["measures"]) == set(wanted.measures) > {"spearman", "top_overlap"}
    rows = list(csv.DictReader(io.StringIO(said(["agree", run, "--csv"], capsys))))
    assert len(rows) == 3 * 6
    assert {row["label"] for row in rows} == {"0", "1", "5"}


def test_measures_by_name(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(["agree", run, "lime", "gradcam", "--measures", "segment-spearman, pearson"], capsys)
    head = next(line for line in text.splitlines() if line.startswith("image"))
    assert " ".join(head.split()) == "image Pearson segment Spearman"
    assert main(["agree", run, "lime", "gradcam", "--measures", "iuo"]) == 2
    assert "measures must be one of iou, dice" in capsys.readouterr().err


def test_groups(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = fx.agreement(fx.open_run(run), "lime", "gradcam")
    wanted = found.by("label")
    text = said(["agree", run, "lime", "gradcam", "--by", "label"], capsys)
    assert "6 images in 3 groups" in text
    assert [line.split()[0] for line in text.splitlines()[5:]] == list(wanted.images)
    data = json.loads(said(["agree", run, "lime", "gradcam", "--by", "label", "--json"], capsys))
    assert data["groups"] == wanted.to_dict()
    rows = list(csv.DictReader(io.StringIO(said(["agree", run, "--by", "class", "--csv"], capsys))))
    assert {(row["first"], row["second"]) for row in rows} == {
        ("lime", "gradcam"),
        ("lime", "saliency"),
        ("gradcam", "saliency"),
    }
    assert sum(int(row["images"]) for row in rows) == 3 * 6


def test_rules(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["agree", run, "lime", "gradcam", "--rule", "lime:top-segments=3", "--threshold", "0.5", "--json"]
    data = json.loads(said(argv, capsys))
    assert data["rules"] == {"lime": "top 3 segments", "gradcam": "pixels of at least 50% of the maximum"}
    wanted = fx.agreement(fx.open_run(run), "lime", "gradcam", top_segments=3, threshold=0.5)
    assert [image["iou"] for image in data["images"]] == wanted.iou.tolist()


def test_maps_from_elsewhere(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = fx.open_run(run)
    for place, image in enumerate(opened.ids[:5]):
        np.save(tmp_path / f"{image}.npy", opened["gradcam"][place].maps[0].numpy())
    argv = ["agree", run, "gradcam", "--external", f"theirs={tmp_path}", "--json"]
    data = json.loads(said(argv, capsys))
    assert (data["second"], data["iou"]["mean"], data["iou"]["count"]) == ("theirs", 1.0, 5)
    assert data["left_out"] == {"without a map in theirs": 1}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["lime"], "methods must be two at least"),
        (["lime", "lime"], "methods must be different ones"),
        (["--external", "maps"], "--external must look like NAME=PLACE, got 'maps'"),
        (["--external", "a=x", "--external", "a=y"], "--external must name each once, got 'a' twice"),
        (["--external", "a=/nowhere"], "must be a folder or a file"),
        (["--external", "lime=."], "external"),
        (["--rule", "lime=3"], "--rule must look like METHOD:RULE=N"),
        (["--rule", "shap:threshold=0.5"], "rules must be of methods that are compared"),
        (["--by", "colour"], "invalid choice: 'colour'"),
    ],
)
def test_wrong_arguments(run: str, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agree", run, *argv]) == 2
    assert message in capsys.readouterr().err


def test_groups_need_labels(
    convolutional: Model, noise_pictures: Pictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    fx.run(convolutional, noise_pictures(2), [fx.GradCam(), fx.Saliency()], out=out)
    assert main(["agree", str(out), "--by", "label"]) == 2
    assert "no image has a label" in capsys.readouterr().err
