"""Draw a run: one PNG panel an image, with the picture, its superpixels, each method and the masks."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "report"
HELP = "PNG panels of a run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command."""
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("--out", metavar="DIR", help="folder for the panels (default: RUN/panels)")


def execute(args: argparse.Namespace) -> int:
    """Write the panels and say where they are."""
    from fastxai.report import write_panels
    from fastxai.store import open_run

    out = Path(args.out) if args.out is not None else Path(args.run) / "panels"
    paths = write_panels(open_run(args.run), out)
    print(f"panels: {len(paths)} in {out}")
    return 0
