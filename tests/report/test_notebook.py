"""Results as notebooks and terminals show them."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from fastxai.results import Found
from fastxai.store import Run


def test_results_show_a_table_and_panels(varied: Found) -> None:
    html = varied._repr_html_()
    assert "12 images" in html
    assert "&lt;script&gt;window.hacked" in html
    assert "<script" not in html
    assert "&lt;i&gt;tabby&lt;/i&gt;" in html
    assert "and 2 more" in html
    sources = re.findall(r'src="([^"]*)"', html)
    assert len(sources) == 2
    for source in sources:
        head, _, data = source.partition(",")
        assert head == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).width == 960


def test_failed_pictures_and_runs_without_pixels(failed: Found) -> None:
    html = failed._repr_html_()
    assert "broken data stream" in html
    assert html.count("data:image/png") == 2
    bare = replace(failed, images=None)._repr_html_()
    assert "without pixels" in bare
    assert "data:image/png" not in bare


def test_a_run_shows_its_first_images(varied: Found, stored: Callable[..., Run], tmp_path: Path) -> None:
    html = stored(varied, tmp_path / "run")._repr_html_()
    assert "12 images" in html
    assert "and 2 more" in html
    assert html.count("data:image/png") == 2


def test_print_lists_images(failed: Found) -> None:
    lines = str(failed).splitlines()
    assert lines[0] == "<Found: 4 images (1 failed), methods lime, gradient-shap, gradcam>"
    assert re.fullmatch(r"chelsea.png +0.512 +2 +Egyptian cat", lines[4])
    assert re.fullmatch(r"coffee.png +failed: broken data stream", lines[5])


def test_print_is_safe_for_terminals(varied: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastxai import results

    monkeypatch.setattr(results, "PRINTED", 11)
    assert "\x1b" not in str(varied)
    assert str(varied).endswith("and 1 more")


def test_rich_shows_the_same_table(varied: Found) -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    ids = ("[bold red]x[/].png", *varied.ids[1:])
    console.print(replace(varied, ids=ids))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[bold red]x[/].png" in text  # never read as markup
    assert "failed: cannot be decoded" in text
    assert "0.950" in text
    assert "[31m.png" not in text.replace("\\x1b[31m.png", "")


def test_results_load_no_drawing_until_they_are_shown() -> None:
    code = "import sys, fastxai.results; sys.exit('matplotlib' in sys.modules or 'rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
