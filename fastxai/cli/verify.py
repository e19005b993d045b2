"""Check every shard of a run: structure, checksums, counts. Repairs nothing."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os

from fastxai.cli.bar import show_bar

NAME = "verify"
HELP = "check every shard of a run"
PROCESSES = 4  # at most: files are opened in processes of their own, which a damaged one may end


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command."""
    parser.add_argument("run", metavar="RUN", help="folder of a run, or a file that `fastxai export` wrote")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="time for one file, besides one second a MiB (default: %(default)s)"
    )


def execute(args: argparse.Namespace) -> int:
    """Print what is wrong; exit status 1 if anything is."""
    from fastxai.measures.table import printable
    from fastxai.store import verify

    processes = max(1, min(PROCESSES, os.cpu_count() or 1))
    with show_bar("files") as progress:
        problems = verify(args.run, processes=processes, seconds=args.seconds, progress=progress)
    if args.json:
        print(json.dumps([dataclasses.asdict(problem) for problem in problems], indent=2))
    else:
        for problem in problems:
            print(printable(str(problem)))
        print(f"{args.run}: {f'{len(problems)} problems' if problems else 'all is well'}")
    return 1 if problems else 0
