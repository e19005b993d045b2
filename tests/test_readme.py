"""Every example of the README runs, and what it names is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

import fastxai as fx
from fastxai.cli import main
from fastxai.cli.app import build_parser

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced examples in a language, in order."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert found
    return found


@pytest.fixture
def folder(tmp_path: Path, photos, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the pictures that the examples name."""
    (tmp_path / "photos").mkdir()
    for name, place in (("chelsea", "cat.jpg"), ("coffee", "photos/coffee.png")):
        Image.fromarray(photos[name]).resize((300, 260)).save(tmp_path / place)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.timeout(600)
def test_the_python_examples(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    found, run = names["found"], names["run"]
    assert isinstance(found, fx.Found)
    assert len(found) == 2 and not found.failures
    assert found["lime"].mask(top_segments=10).any()
    assert len(run) == 1  # type: ignore[arg-type]
    printed = capsys.readouterr().out
    assert "cat.jpg" in printed and "insertion" in printed


@pytest.mark.timeout(600)
def test_the_commands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in "".join(blocks("sh")).splitlines():
        program, *argv = shlex.split(line, comments=True)
        assert program == "fastxai"
        assert main(argv) == 0, (line, capsys.readouterr())
    made = {path.name for path in (folder / "runs/birds").iterdir()}
    assert {"run.json", "scores.json", "report.html", "index.h5", "figures"} <= made
    assert (folder / "birds.h5").is_file()


def test_every_flag_and_script_that_is_named_exists() -> None:
    _, commands = build_parser()
    known = {flag for command in commands.values() for flag in command._option_string_actions}
    scripts = {
        name: (ROOT / "scripts" / name).read_text(encoding="utf-8") for name in re.findall(r"scripts/(\w+)", TEXT)
    }
    for flag in set(re.findall(r"(?<![\w-])--[a-z][\w-]+", TEXT)):
        assert flag in known or any(flag in text for text in scripts.values()), flag


def test_every_method_and_measure_has_a_line() -> None:
    table = TEXT[TEXT.index("## Methods") :]
    for name in fx.EXPLAINERS.names():
        assert f"| `{name}" in table, name
    for name in fx.MEASURES.names():
        assert f"`{name}`" in TEXT or f"-m {name}" in TEXT, name
