"""Flags from a TOML file."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastxai.cli.app import parse
from fastxai.errors import ArgumentError


def write(folder: Path, text: str) -> str:
    path = folder / "job.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_every_kind_of_flag_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        images = ["a", "--odd name"]
        explainer = ["lime:samples=50", "gradcam"]
        out = "runs/x"
        seed = 7
        no-pixels = true
        resume = false
        shard_images = 3
        """,
    )
    args = parse(["explain", "--config", path])
    assert args.images == ["a", "--odd name"]
    assert args.explainer == ["lime:samples=50", "gradcam"]
    assert (args.out, args.seed, args.no_pixels, args.resume, args.shard_images) == ("runs/x", 7, True, False, 3)


def test_the_command_line_wins(tmp_path: Path) -> None:
    path = write(tmp_path, 'images = ["a"]\nexplainer = ["lime"]\nseed = 7\nout = "x"')
    args = parse(["explain", "b", "--config", path, "-e", "gradcam", "--seed", "8"])
    assert (args.images, args.explainer, args.seed, args.out) == (["b"], ["gradcam"], 8, "x")


def test_a_table_of_the_command_adds_to_the_top(tmp_path: Path) -> None:
    path = write(tmp_path, "[explain]\nseed = 7\n[agree]\njson = true\n[other]\nx = 1")
    assert parse(["explain", "a", "--config", path]).seed == 7
    assert parse(["agree", "run", "lime", "gradcam", "--config", path]).json is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed = 1", r"'sed' must be a flag of fastxai explain \(.*seed.*\)"),
        ("config = 'x'", "'config' must be a flag"),
        ("seed = [1, 2]", "seed must be one value"),
        ("seed = 'q'", "invalid int value"),
        ("seed = true", "seed must have a value"),
        ("resume = 1", "resume must be true or false"),
        ("store = 'tiny'", "invalid choice"),
        ("seed = ", "must be a TOML file"),
    ],
)
def test_what_is_no_flag_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ArgumentError, match=message):
        parse(["explain", "--config", path])
