"""Exit statuses, and one line for everything that goes wrong."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastxai.cli import app, main
from fastxai.errors import ArgumentError, CannotRun, MissingExtra


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "grey.png"
    Image.fromarray(np.full((32, 48, 3), 128, np.uint8)).save(path)
    return str(path)


def refused(capsys: pytest.CaptureFixture[str], argv: list[str], status: int = 2) -> str:
    """The one line on stderr."""
    assert main(argv) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("fastxai: ")
    return lines[0]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "COMMAND"),
        (["explode"], "invalid choice: 'explode'"),
        (["explain", "--out", "x"], "IMAGES must name at least one"),
        (["explain", "-o", "x"], "IMAGES must name at least one"),
        (["explain", "a.png"], "--out must name the folder"),
        (["explain", "a.png", "--out", "x", "--seed", "q"], "--seed: invalid int value: 'q'"),
        (["explain", "a.png", "--out", "x", "--precision", "int8"], "--precision: invalid choice"),
        (["explain", "a.png", "--out", "x", "--se", "1"], "unrecognized arguments"),
        (["explain", "a.png", "--out", "x", "b.png", "--se", "1"], "unrecognized arguments: b.png --se 1"),
        (["info", "run", "--json", "more"], "unrecognized arguments: more"),
        (["explain", "a.png", "--out", "x", "--workers", "0"], "--workers must be at least 1"),
        (["explain", "a.png", "--out", "x", "--workers", "2", "--shard", "0/2"], "--shard must stand without"),
        (["explain", "a.png", "--out", "x", "--ray", "--shard", "0/2"], "--shard must stand without"),
        (["explain", "--out", "x", "a.png", "--ray", "photos"], "--ray must be host:port"),
        (["explain", "a.png", "--out", "x", "--retry-failed"], "--retry-failed must come with --resume"),
        (["report", "run", "--pair", "lime"], "--pair: expected 2 arguments"),
        (["agree"], "required: RUN"),
        (["agree", "run", "lime", "gradcam", "--json", "--csv"], "not allowed with"),
    ],
)
def test_arguments_that_do_not_parse(capsys: pytest.CaptureFixture[str], argv: list[str], message: str) -> None:
    assert message in refused(capsys, argv)


@pytest.mark.parametrize(
    ("argv", "dest", "words"),
    [
        (["agree", "run", "--json", "lime", "gradcam"], "methods", ["lime", "gradcam"]),
        (["agree", "--json", "run", "lime", "--by", "class", "gradcam"], "methods", ["lime", "gradcam"]),
        (["agree", "run", "--json"], "methods", []),
        (["explain", "a.png", "--out", "x", "b.png", "--seed", "1", "c.png"], "images", ["a.png", "b.png", "c.png"]),
        (["explain", "a.png", "--out", "x", "--", "-b.png"], "images", ["a.png", "-b.png"]),
    ],
)
def test_words_may_stand_among_flags(argv: list[str], dest: str, words: list[str]) -> None:
    assert getattr(app.parse(argv), dest) == words


def test_missing_and_empty_sources(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "none in" in refused(capsys, ["explain", str(empty), "--out", out])
    assert "nowhere" in refused(capsys, ["explain", str(tmp_path / "nowhere"), "--out", out])
    assert not Path(out).exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-e", "limes"], "xgradcam, got 'limes'"),
        (["-e", "lime:sampels=5"], "got 'sampels'"),
        (["-e", "lime:samples=-5"], "samples must be"),
        (["-e", "lime:segments=voronoi"], "got 'voronoi'"),
        (["-e", "gradcam", "-e", "gradcam"], "different names"),
        (["--model", "resnet50"], "model must be"),
        (["--model", "torchvision:resnet51"], "resnet51"),
        (["--device", "abacus"], "device must be"),
        (["-e", "gradcam:layer=nowhere"], "nowhere"),
        (["-e", "gradcam", "--targets", "1000"], "targets must be between 0 and 999, got 1000"),
        (["-e", "gradcam", "--targets", "top0"], "targets must be"),
        (["-e", "gradcam", "--targets", "best"], "targets must be"),
        (["-e", "gradcam", "--seed", "-1"], "seed must be"),
        (["-e", "gradcam", "--shard-images", "0"], "shard_images must be"),
        (["-e", "gradcam", "--batch", "0"], "batch must be"),
        (["-e", "gradcam", "--shard", "2/2"], "shard must be i/N"),
        (["-e", "gradcam", "--shard", "two"], "shard must be i/N"),
    ],
)
def test_arguments_that_the_parts_refuse(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, picture: str, flags: list[str], message: str
) -> None:
    out = tmp_path / "run"
    assert message in refused(capsys, ["explain", picture, "--out", str(out), "--device", "cpu", *flags])
    assert not (out / "run.json").exists()


def test_output_that_is_not_a_run(capsys: pytest.CaptureFixture[str], tmp_path: Path, picture: str) -> None:
    # the picture itself is in the folder
    line = refused(capsys, ["explain", picture, "--out", str(tmp_path)])
    assert "out must be a new or empty folder" in line
    assert "must be a folder, got the file" in refused(capsys, ["explain", picture, "--out", picture])


@pytest.mark.parametrize("command", [["agree", "RUN", "lime", "gradcam"], ["report", "RUN"], ["info", "RUN"]])
def test_a_folder_that_is_not_a_run(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str]) -> None:
    line = refused(capsys, [str(tmp_path) if word == "RUN" else word for word in command])
    assert "RUN must be a folder with a run.json" in line


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ArgumentError("a must be b,\n got c"), 2, "fastxai: a must be b, got c"),
        (CannotRun("no room"), 1, "fastxai: no room"),
        (MissingExtra("timm models", "models"), 1, "pip install 'fastxai[models]'"),
        (OSError(28, "No space left on device", "/x"), 1, "No space left on device"),
        (KeyboardInterrupt(), 130, "fastxai: interrupted"),
    ],
)
def test_exit_statuses(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
    line: str,
) -> None:
    def execute(args: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(app.info, "execute", execute)
    assert line in refused(capsys, ["info", "x"], status)


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(args: argparse.Namespace) -> int:
        raise ValueError("a bug")

    monkeypatch.setattr(app.info, "execute", execute)
    with pytest.raises(ValueError, match="a bug"):
        main(["info", "x"])


def test_a_reader_that_leaves_early_is_no_traceback() -> None:
    # `head` closes the pipe; the help is longer than what it takes
    code = "import sys; from fastxai.cli import app\n"
    code += "app.info.execute = lambda args: [print('x' * 1000) for _ in range(10000)] and 0\nsys.exit(app.main())"
    with subprocess.Popen(
        [sys.executable, "-c", code, "info", "run"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 1
