"""How much two methods of a run point at the same places: IoU of their masks, per image and mean.

A method on superpixels is made binary by its most positive segments, any other by its top share of pixels.
"""

from __future__ import annotations

import argparse
import json

from fastxai.errors import CannotRun

NAME = "agree"
HELP = "IoU of two methods, per image and mean"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command."""
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("first", metavar="A", help="a method of the run, for instance lime")
    parser.add_argument("second", metavar="B", help="another one, for instance gradcam")
    parser.add_argument("--top-segments", type=int, default=10, metavar="N", help="default: %(default)s")
    parser.add_argument("--top-fraction", type=float, default=0.2, metavar="F", help="default: %(default)s")
    parser.add_argument(
        "--target", type=int, default=0, metavar="K", help="which of the explained classes, 0 the first"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print CSV, one line an image")


def execute(args: argparse.Namespace) -> int:
    """Print the agreement as a table, JSON or CSV."""
    from fastxai.results import agreement
    from fastxai.store import open_run

    run = open_run(args.run)
    if not len(run):
        raise CannotRun(f"{args.run} holds no image yet")
    found = agreement(
        run,
        args.first,
        args.second,
        top_segments=args.top_segments,
        top_fraction=args.top_fraction,
        target=args.target,
    )
    if args.json:
        print(json.dumps(found.to_dict(), indent=2))
    elif args.csv:
        print(found.to_csv(), end="")
    else:
        print(found)
    return 0
