"""What both studies need: where results go, progress, and errors in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[2]
DOWNLOAD = "download"

if TYPE_CHECKING:
    import fastxai as fx


def new_folder(name: str) -> Path:
    """runs/NAME-1, runs/NAME-2, ...: the first that was not there, made."""
    runs = ROOT / "runs"
    runs.mkdir(exist_ok=True)
    number = 1
    while True:
        folder = runs / f"{name}-{number}"
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def out_folder(given: str | None, name: str) -> Path:
    """The folder asked for, made, or a new one; one that holds something is refused: no study overwrites another."""
    if given is None:
        return new_folder(name)
    folder = Path(given)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        from fastxai.errors import ArgumentError

        raise ArgumentError(f"--out must be a new or empty folder, got {given!r}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of where the model runs."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: %(default)s)")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    parser.add_argument("--compile", default="auto", choices=("auto", "on", "off"), help="torch.compile")


def load(spec: str, weights: str | None, args: argparse.Namespace) -> fx.Model:
    """The model; "download" means the weights that its source has."""
    import fastxai as fx

    compiled = {"auto": "auto", "on": True, "off": False}[args.compile]
    file = None if weights == DOWNLOAD else weights
    return fx.load_model(spec, file, args.device, args.precision, compile=compiled)


def progress(done: Any) -> None:
    """A line that is written over, on a terminal only."""
    if sys.stderr.isatty():
        end = "\n" if done.images >= done.images_total else ""
        print(f"\r{done.images}/{done.images_total} images, {done.method or 'begins'}   ", end=end, file=sys.stderr)


def guarded(name: str, main: Callable[[], int]) -> int:
    """The exit status of the study `name`; errors that say what to do are one line, as in the `fastxai` command."""
    sys.path.insert(0, str(ROOT))
    from fastxai.errors import ArgumentError, CannotRun

    try:
        return main()
    except (ArgumentError, CannotRun, OSError) as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, ArgumentError) else 1
