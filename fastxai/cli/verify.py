"""Check every shard of a run: structure, checksums, counts. Repairs nothing."""

from __future__ import annotations

import argparse
import dataclasses
import json

NAME = "verify"
HELP = "check every shard of a run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command."""
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("--json", action="store_true", help="print JSON")


def execute(args: argparse.Namespace) -> int:
    """Print what is wrong; exit status 1 if anything is."""
    from fastxai.measures.table import printable
    from fastxai.store import verify

    problems = verify(args.run)
    if args.json:
        print(json.dumps([dataclasses.asdict(problem) for problem in problems], indent=2))
    else:
        for problem in problems:
            print(printable(str(problem)))
        print(f"{args.run}: {f'{len(problems)} problems' if problems else 'all is well'}")
    return 1 if problems else 0
