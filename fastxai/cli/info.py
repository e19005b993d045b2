"""What a run holds: configuration, model, images, failures, files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
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
    for name, value in info.items():
        print(f"{name:14} {printable(_text(value))}")
    for method in methods:
        print(f"{'method':14} {printable(_text(method))}")
    if failures:
        print()
        print(show.failures(failures, SHOWN))
    return 0


def _text(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    return ", ".join(f"{k}=({_text(v)})" if isinstance(v, Mapping) else f"{k}={v}" for k, v in value.items())
