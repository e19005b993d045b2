"""The real `fastxai explain`, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from _torture import subject

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = ("NUMBA_THREADING_LAYER", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def environment() -> dict[str, str]:
    """That of an ordinary user: without the settings that forking needs here, with the subject's model in reach."""
    path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "scripts"), os.environ.get("PYTHONPATH")]))
    kept = {name: value for name, value in os.environ.items() if name not in ONE_THREAD}
    return kept | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def start(out: Path, images: Sequence[Path], *flags: str) -> subprocess.Popen[str]:
    """Start `fastxai explain` of the subject's model and methods; its output waits in pipes."""
    methods = [word for method in subject.METHODS for word in ("-e", method)]
    model = ["--model", "_torture.subject:model", "--device", "cpu"]
    command = [sys.executable, "-m", "fastxai", "explain", *map(str, images), "--out", str(out)]
    return subprocess.Popen(
        [*command, *model, *methods, *flags],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def begin(out: Path, like: Path) -> Path:
    """Begin the run `out` with the configuration and calibrated settings of the run `like`, to be resumed."""
    out.mkdir()
    (out / "run.json").write_bytes((like / "run.json").read_bytes())
    return out


def threads(run: Path) -> str:
    """What was calibrated, for people."""
    settings = json.loads((run / "run.json").read_text())["settings"]
    return f"{settings['threads']} threads, rows {settings['rows']}"
