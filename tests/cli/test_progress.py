"""Progress on terminals and elsewhere."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from fastxai.cli import progress as module
from fastxai.cli.progress import show_progress
from fastxai.types import Progress

START = Progress(images=0, images_total=40, failed=0, method="lime", rows=100, rows_total=4000, seconds=1.0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_quiet_shows_nothing() -> None:
    stream = Terminal()
    with show_progress(quiet=True, stream=stream) as progress:
        assert progress is None
    assert stream.getvalue() == ""


def test_plain_lines_are_rare_and_the_last_one_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    stream = io.StringIO()
    with show_progress(quiet=False, stream=stream) as progress:
        assert progress is not None
        for step in range(200):
            now = 100.0 + step * 0.1
            progress(replace(START, images=step // 10, rows=step * 10 + 100, seconds=1 + step * 0.1))
        progress(replace(START, images=40, failed=2, rows=4000, seconds=20.0))
    lines = stream.getvalue().splitlines()
    assert lines == [
        "fastxai: 0/40 images, 39.0 s left",
        # 11 s for 1100 of 4000 rows
        "fastxai: 10/40 images, 0.909 images/s, 29.0 s left",
        "fastxai: 40/40 images (2 failed), 2 images/s, 20.0 s in all",
    ]


def test_a_terminal_gets_a_bar() -> None:
    stream = Terminal()
    with show_progress(quiet=False, stream=stream) as progress:
        assert progress is not None
        progress(replace(START, images=10, rows=2000, seconds=5.0))
    text = stream.getvalue()
    assert "10/40 images" in text
    assert "2 images/s, 5.0 s left" in text
    assert "50%" in text
