"""Show a run: one HTML file with everything in it, and PNG and PDF panels for papers."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from fastxai.cli import show
from fastxai.cli.bar import show_bar

NAME = "report"
HELP = "one HTML file of a run, and panels for papers"
DPI = 300  # of panels

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command."""
    parser.add_argument("run", metavar="RUN", help="folder of a run, or a file of `fastxai export`")
    parser.add_argument("-o", "--out", metavar="FILE.html", help="the new file (default: report.html in the run)")
    parser.add_argument(
        "--figures", metavar="DIR", help=f"write a panel an image too, as PNG ({DPI} dpi) and PDF (text stays text)"
    )
    parser.add_argument(
        "--max-size", type=_size, default="200MB", metavar="SIZE", help="of the HTML file (default: %(default)s)"
    )
    parser.add_argument("--title", default="", help="default: the name of the run")
    parser.add_argument(
        "--pair", nargs=2, metavar=("A", "B"), default=("", ""), help="the methods compared at first (default: chosen)"
    )
    parser.add_argument("--top-segments", type=int, default=10, metavar="N", help="of a mask; default: %(default)s")
    parser.add_argument("--top-fraction", type=float, default=0.2, metavar="F", help="of a mask; default: %(default)s")
    parser.add_argument(
        "--target", type=int, default=0, metavar="K", help="which of the explained classes, 0 the first"
    )


def execute(args: argparse.Namespace) -> int:
    """Write the file and the panels, and say where they are, how large, and what was left out."""
    from fastxai.report import Comparison, ReportOptions, write_panels, write_report
    from fastxai.store import open_run

    first, second = args.pair
    compare = Comparison(first, second, top_segments=args.top_segments, top_fraction=args.top_fraction)
    options = ReportOptions(args.max_size, args.target, compare, args.title)
    with open_run(args.run) as run:
        out = Path(args.out) if args.out is not None else _beside(run.path)
        with show_bar("images") as progress:
            written = write_report(run, out, options=options, progress=progress)
        print(f"report: {written.path} ({show.size(written.size)}, {show.count(written.images, 'image')})")
        if written.whole < written.images:
            print(
                f"left out for the size: maps of {written.images - written.whole} of {written.images} images; "
                "a larger --max-size keeps them"
            )
        if args.figures is not None:
            with show_bar("panels") as progress:
                paths = write_panels(
                    run,
                    args.figures,
                    targets=(args.target,),
                    compare=compare,
                    formats=("png", "pdf"),
                    dpi=DPI,
                    progress=progress,
                )
            print(f"figures: {show.count(len(paths), 'file')} in {args.figures}")
    return 0


def _beside(run: Path) -> Path:
    return run / "report.html" if run.is_dir() else run.with_suffix(".report.html")


def _size(text: str) -> int:
    """Bytes of 800000, 500kB, 200MB, 1.5 GB."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)B?", text.strip(), re.IGNORECASE)
    if found is None:
        raise argparse.ArgumentTypeError(f"must be a size such as 200MB, got {text!r}")
    return int(float(found[1]) * _UNITS[found[2].upper()])
