"""`fastxai bench` from the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fastxai.cli import main

FACTORY = """
import fastxai as fx
from torch import nn

def make():
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    return fx.Model(module, fx.Preprocess((24, 24), 24), device="cpu", precision="fp32", compile=False)
"""
QUICK = [
    "--images",
    "2",
    "--batch",
    "2",
    "--repeat",
    "1",
    "--peer-seconds",
    "0",
    "--limit-seconds",
    "0",
    "--compared",
    "1",
    "--run-images",
    "2",
]


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from fastxai.bench import runner

    (tmp_path / "tiny_bench_model.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tiny_bench_model", raising=False)
    monkeypatch.setattr(runner, "import_seconds", lambda: 0.5)
    return "tiny_bench_model:make"


def test_the_flag_names_every_peer() -> None:
    from fastxai.bench.peers import PEERS
    from fastxai.cli import bench

    assert set(bench.PEERS.split(",")) == set(PEERS)


def test_json_and_a_file(tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "record.json"
    argv = ["bench", "--model", tiny, "-e", "gradcam", "--peers", "none", "--json", "--out", str(out), *QUICK]
    assert main(argv) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found == json.loads(out.read_text())
    assert found["model"]["spec"] == tiny
    assert found["cases"][0]["peers"] == []
    assert "fastxai bench: gradcam, top1: round 1 of 1, limit: " in captured.err


def test_a_table_for_people(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    methods = ["-e", "gradient-shap", "--samples", "2", "--targets", "top1", "--targets", "all:2"]
    assert main(["bench", "--model", tiny, *methods, "--peers", "shap", "--quiet", *QUICK]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "gradient-shap: 1 class x 2 samples x 2 images of 24x24" in captured.out
    assert "(a sample of 5)" in captured.out
    assert "shap 0" in captured.out


def test_pictures_from_files(tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np
    from PIL import Image

    Image.fromarray(np.arange(48 * 40 * 3, dtype=np.uint8).reshape(48, 40, 3)).save(tmp_path / "one.png")
    argv = ["bench", str(tmp_path / "one.png"), "--model", tiny, "-e", "gradcam", "--peers", "none", "--json"]
    assert main([*argv, *QUICK]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pictures"] == "given files"
    assert (found["cases"][0]["work"]["images"], found["cases"][0]["work"]["distinct"]) == (2, 1)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--peers", "eli5"], "peers must be one of lime"),
        (["--repeat", "0"], "repeat must be at least 1"),
        (["--images", "0"], "images must be at least 1"),
        (["--targets", "label"], "targets must be top1"),
        (["-e", "lime", "--targets", "all"], "targets must leave something"),
        (["-e", "shap"], "explainer must be one of"),
        (["--samples", "0"], "samples must be at least"),
        (["--out", "no/such/folder/x.json"], "--out must be a file in a folder that exists"),
        (["no-such-file.png", "--model", "tiny_bench_model:make"], "no-such-file.png"),
        (["--model", "tiny_bench_model:make", "-e", "gradcam:layer=nothing", "--peers", "none"], "layer must"),
        (["--model", "tiny_bench_model:make", "-e", "gradcam", "--targets", "top6"], "between top1 and top5"),
    ],
)
def test_wrong_arguments_are_one_line(
    tiny: str, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert message in captured.err
