"""Write a run, or a part of it, in another format, which the ending of --out says.

fastxai export RUN -o birds.h5         one file that holds everything itself: for sharing, and for viewers
fastxai export RUN -o birds.zarr       a Zarr store of named arrays, for xarray and dask
fastxai export RUN -o birds.parquet    a table: a row for each image, target and method
fastxai export RUN -o birds --format png    a folder with a picture of every map
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fastxai.cli import show
from fastxai.cli.bar import show_bar
from fastxai.errors import ArgumentError

NAME = "export"
HELP = "write a run as one file, Zarr, Parquet or pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command."""
    parser.add_argument("run", metavar="RUN", help="folder of a run, or a file that this command wrote")
    parser.add_argument("-o", "--out", metavar="OUT", help="the new file or folder")
    parser.add_argument(
        "--format", choices=("h5", "zarr", "parquet", "png"), help="instead of what the ending of --out says"
    )
    parser.add_argument("--ids", nargs="+", action="extend", metavar="ID", help="only these images, in run order")
    parser.add_argument("--methods", nargs="+", action="extend", metavar="NAME", help="only these methods")
    parser.add_argument("--no-pixels", action="store_true", help="leave the pictures out")


def execute(args: argparse.Namespace) -> int:
    """Write it and say how large it is."""
    if args.out is None:
        raise ArgumentError("--out must name the new file")
    with show_bar("images") as progress:
        if args.format == "png":
            from fastxai.report import write_maps
            from fastxai.store import open_run

            with open_run(args.run) as run:
                path = write_maps(run, args.out, ids=args.ids, methods=args.methods, progress=progress)
        else:
            from fastxai.store import export_run

            path = export_run(
                args.run,
                args.out,
                format=args.format,
                ids=args.ids,
                methods=args.methods,
                pixels=not args.no_pixels,
                progress=progress,
            )
    print(f"export: {path} ({show.size(_bytes(path))})")
    return 0


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)
