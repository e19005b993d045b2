"""What a run holds: configuration, model, images, failures, files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

from fastxai.cli import show

NAME = "info"
HELP = "what a run holds"
SHOWN = 10  # failures listed; --json has all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command."""
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("--json", action="store_true", help="print JSON")


def execute(args: argparse.Namespace) -> int:
    """Print the run's description."""
    from fastxai.measures.table import printable
    from fastxai.store import open_run

    with open_run(args.run) as run:
        info, failures = run.info(), run.failures
    if args.json:
        print(json.dumps(info | {"failures": failures}, indent=2))
        return 0
    info["bytes"] = show.size(info["bytes"])
    methods = info.pop("methods")
    for name, value in [*info.items(), *((method.pop("name"), method) for method in methods)]:
        for label, text in _lines(name, value):
            print(f"{label:24} {printable(text)}")
    if failures:
        print()
        print(show.failures(failures, SHOWN))
    return 0


def _lines(name: str, value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    """A value in one line; a group as a line for its name and one for each member, indented."""
    label = "  " * depth + name
    if not isinstance(value, Mapping):
        yield label, str(value)
        return
    yield label, ""
    for inner, member in value.items():
        yield from _lines(inner, member, depth + 1)
