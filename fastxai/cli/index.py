"""Write index.h5: the small columns of all shards in one file, for quick opening and for viewers."""

from __future__ import annotations

import argparse

NAME = "index"
HELP = "write index.h5 of a run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command."""
    parser.add_argument("run", metavar="RUN", help="folder of a run")


def execute(args: argparse.Namespace) -> int:
    """Say which shards are missing, write the index of those that are there and say where it is."""
    from fastxai.measures.table import printable
    from fastxai.store import build_index, missing_shards

    missing = missing_shards(args.run)
    path = build_index(args.run)
    for line in missing:
        print(printable(line))
    print(f"index: {path}")
    return 0
