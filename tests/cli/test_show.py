"""Tables, sizes and times as people read them."""

from __future__ import annotations

import dataclasses

import pytest

from fastxai.cli import show
from fastxai.results import RunSummary, Timing
from fastxai.types import Settings


def test_table_aligns_and_disarms() -> None:
    text = show.table(["name", "n"], [["a", "1"], ["long\x1b[2J", "1000"]])
    assert text.splitlines() == [
        "name            n",
        "-----------------",
        "a               1",
        "long\\x1b[2J  1000",
    ]


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (3e13, "30.0 TB")]
)
def test_size(count: float, text: str) -> None:
    assert show.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3.21, "3.2 s"),
        (59.99, "1 min 00 s"),
        (245, "4 min 05 s"),
        (11400, "3 h 10 min"),
        (float("inf"), "an unknown time"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert show.duration(seconds) == text


def test_timings_count_images_and_rows() -> None:
    summary = RunSummary(
        images=4,
        failed=1,
        skipped=0,
        seconds=8.0,
        calibration_seconds=1.5,
        timings={"lime": Timing(6.0, 4000), "gradcam": Timing(0.0, 0)},
        settings=Settings(),
    )
    lines = show.timings(summary).splitlines()
    assert lines[2].split() == ["lime", "6.00", "1.500", "4000", "667"]
    assert lines[3].split() == ["gradcam", "0.00", "0.000", "0", "-"]
    assert lines[4] == "4 images in 8.0 s: 0.5 images/s (and 1.5 s to calibrate)"
    assert len(lines) == 5
    tight = dataclasses.replace(summary, rows={"predict": 8, "scores": 2})
    assert show.timings(tight).splitlines()[5:] == ["memory ran out: rows a chunk were cut to scores 2"]


@pytest.mark.parametrize(("value", "text"), [(0.003268, "0.00327"), (3.214, "3.21"), (99.96, "100"), (1234.5, "1234")])
def test_rate(value: float, text: str) -> None:
    assert show.rate(value) == text


def test_a_resume_with_nothing_to_do_says_so() -> None:
    summary = RunSummary(0, 0, 4, 0.1, 0.0, {"lime": Timing(0.0, 0)}, Settings())
    assert show.timings(summary) == "nothing left to explain"


def test_failures_are_limited() -> None:
    text = show.failures({"a.png": "truncated", "b.png": "empty", "c.png": "empty"}, 2)
    assert "a.png" in text
    assert "c.png" not in text
    assert text.endswith("... and 1 more")
