"""The commands on real pictures and the embedded model, from files to a report."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastxai.cli import main

# small and quick: no calibration of precision or compilation, few samples on few segments
FLAGS = ["--device", "cpu", "--precision", "fp32", "--compile", "off"]
METHODS = ["-e", "lime:samples=30,segments=grid(rows=4,columns=4)", "-e", "gradcam"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, photos: dict[str, np.ndarray]) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("chelsea", "coffee"):
        Image.fromarray(photos[name]).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = str(tmp_path_factory.mktemp("runs") / "first")
    # one picture fails
    assert main(["explain", str(pictures), "--out", out, "--quiet", *METHODS, *FLAGS]) == 3
    return out


def test_explain_prints_predictions_times_and_failures(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["explain", str(pictures), "--out", str(tmp_path / "run"), "-e", "gradcam", *FLAGS]
    assert main(argv) == 3
    captured = capsys.readouterr()
    rows = {line.split()[0]: line for line in captured.out.splitlines() if line.strip()}
    assert "espresso 0.9" in rows["coffee.png"]
    assert rows["coffee.png"].count("|") == 4
    assert "failed: " in captured.out
    assert "gradcam" in rows
    assert "images/s" in captured.out
    assert "3/3 images (1 failed)" in captured.err.splitlines()[-1]


def test_explain_as_json(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    assert main(["explain", str(pictures / "coffee.png"), "--out", out, "-e", "gradcam", "--json", *FLAGS]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["run"], data["images"], data["failed"], data["failures"]) == (out, 1, 0, {})
    assert data["timings"]["gradcam"]["seconds"] >= 0
    assert data["settings"]["precision"] == "fp32"


def test_an_existing_run_wants_resume(run: str, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["explain", str(pictures), "--out", run, *METHODS, *FLAGS]
    assert main(argv) == 2
    line = capsys.readouterr().err
    assert "--resume" in line
    assert main([*argv, "--resume"]) == 3  # the broken picture is still broken
    assert "nothing left to explain" in capsys.readouterr().out
    assert main([*argv, "--resume", "--seed", "1"]) == 2
    assert "seed" in capsys.readouterr().err


def test_agree_prints_a_table_json_and_csv(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agree", run, "lime", "gradcam", "--top-segments", "4"]) == 0
    assert "mean" in capsys.readouterr().out
    assert main(["agree", run, "lime", "gradcam", "--top-segments", "4", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {image["image"] for image in data["images"]} == {"chelsea.png", "coffee.png"}
    assert main(["agree", run, "lime", "gradcam", "--top-segments", "4", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    values = {row["image"]: float(row["iou"]) for row in rows}
    assert values == {image["image"]: image["iou"] for image in data["images"]}
    assert np.mean(list(values.values())) == pytest.approx(data["iou"]["mean"])


def test_agree_is_the_same_in_slices(
    run: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastxai import compare

    argv = ["agree", run, "lime", "gradcam"]
    assert main(argv) == 0
    whole = capsys.readouterr().out
    monkeypatch.setattr(compare, "SLICE", 1)
    assert main(argv) == 0
    assert capsys.readouterr().out == whole


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["agree", "RUN", "lime", "shap"], "method must be one of lime, gradcam, got 'shap'"),
        (["agree", "RUN", "lime", "gradcam", "--target", "1"], "target must be"),
        (["agree", "RUN", "lime", "gradcam", "--top-segments", "0"], "must be"),
        (["agree", "RUN", "lime", "gradcam", "--top-fraction", "1.5"], "must be"),
    ],
)
def test_agree_refuses(run: str, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([run if word == "RUN" else word for word in argv]) == 2
    assert message in capsys.readouterr().err


def test_report_writes_a_page_and_figures(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", run, "--figures", str(tmp_path / "figures")]) == 0
    page = Path(run) / "report.html"
    said = capsys.readouterr().out
    assert f"report: {page} (" in said
    assert "2 images)" in said
    assert f"figures: 4 files in {tmp_path / 'figures'}" in said
    assert "espresso" in page.read_text(encoding="utf-8")
    panels = sorted((tmp_path / "figures").iterdir())
    assert [path.suffix for path in panels] == [".pdf", ".png", ".pdf", ".png"]
    with Image.open(panels[1]) as image:
        assert image.width == 3600


def test_report_says_what_was_left_out(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "x.html")
    assert main(["report", run, "-o", out]) == 0
    text = Path(out).read_text(encoding="utf-8")
    without = re.sub(r'<script type="application/json" id="image-\d+">.*?</script>\n', "", text)
    limit = len(without.encode()) + 2_000
    capsys.readouterr()
    assert main(["report", run, "-o", out, "--max-size", str(limit), "--pair", "gradcam", "lime"]) == 0
    assert "left out for the size: maps of 2 of 2 images" in capsys.readouterr().out
    assert Path(out).stat().st_size <= limit


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max-size", "much"], "must be a size such as 200MB, got 'much'"),
        (["--max-size", "1.5kB"], "max_size must be at least"),
        (["--pair", "lime", "shap"], "method must be one of lime, gradcam, got 'shap'"),
        (["--target", "1"], "target must be between 0 and 0, got 1"),
    ],
)
def test_report_refuses(
    run: str, flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", run, "-o", str(tmp_path / "x.html"), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()


def test_info(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", run]) == 0
    text = capsys.readouterr().out
    assert "broken.png" in text
    assert main(["info", run, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["images"], data["failed"], data["seed"]) == (3, 1, 0)
    assert list(data["failures"]) == ["broken.png"]


def test_index_and_verify(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", run]) == 0
    assert (Path(run) / "index.h5").is_file()
    assert main(["verify", run]) == 0
    assert "all is well" in capsys.readouterr().out
    shard = next((Path(run) / "shards").glob("*.h5"))
    good = shard.read_bytes()
    try:
        shard.write_bytes(good[: len(good) // 2])
        assert main(["verify", run, "--json"]) == 1
        problems = json.loads(capsys.readouterr().out)
        assert problems[0]["file"] == f"shards/{shard.name}"
    finally:
        shard.write_bytes(good)


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--device", "cpu", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["parts"]["torch"].startswith("torch 2.")
    assert data["machine"]["device"] == "cpu, as asked for"
    assert set(data["operations on cpu"]) >= {"compose_rows", "paint"}
