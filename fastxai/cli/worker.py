"""One worker of `fastxai explain --workers`, which starts it: the task comes on stdin, answers go to stdout."""

from __future__ import annotations

import argparse

from fastxai.cli.signals import stoppable

NAME = "worker"
HELP = None  # not for people: not listed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def execute(args: argparse.Namespace) -> int:
    """Work; the exit status says whether to start another."""
    with stoppable() as stop:
        from fastxai.distributed.process import serve

        return serve(stop)
