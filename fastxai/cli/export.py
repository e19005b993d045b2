"""Write a run, or a part of it, as one HDF5 file that holds everything itself: for sharing, and for viewers."""

from __future__ import annotations

import argparse

from fastxai.cli import show
from fastxai.cli.bar import show_bar
from fastxai.errors import ArgumentError

NAME = "export"
HELP = "write a run as one file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command."""
    parser.add_argument("run", metavar="RUN", help="folder of a run, or a file that this command wrote")
    parser.add_argument("-o", "--out", metavar="FILE.h5", help="the new file")
    parser.add_argument("--ids", nargs="+", action="extend", metavar="ID", help="only these images, in run order")
    parser.add_argument("--methods", nargs="+", action="extend", metavar="NAME", help="only these methods")
    parser.add_argument("--no-pixels", action="store_true", help="leave the pictures out")


def execute(args: argparse.Namespace) -> int:
    """Write the file and say how large it is."""
    from fastxai.store import export_run

    if args.out is None:
        raise ArgumentError("--out must name the new file")
    with show_bar("images") as progress:
        path = export_run(
            args.run, args.out, ids=args.ids, methods=args.methods, pixels=not args.no_pixels, progress=progress
        )
    print(f"export: {path} ({show.size(path.stat().st_size)})")
    return 0
