"""`main`: choose the command, run it, turn what goes wrong into one line and an exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from fastxai._version import __version__
from fastxai.cli import agree, bench, doctor, explain, export, index, info, report, score, verify, worker
from fastxai.cli.configfile import read_flags
from fastxai.errors import ArgumentError, CannotRun

COMMANDS: tuple[ModuleType, ...] = (explain, agree, score, report, info, verify, index, export, doctor, bench, worker)

OK, CANNOT_RUN, WRONG_ARGUMENTS, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 130

_STATUS_HELP = """\
exit status: 0 all done, 1 could not run, 2 wrong arguments, 3 finished but some images failed,
130 interrupted (what was committed stays; go on with --resume)"""


class _Parser(argparse.ArgumentParser):
    """argparse that raises instead of printing its usage: `main` prints one line."""

    def error(self, message: str) -> NoReturn:
        raise ArgumentError(f"{message} (see {self.prog} --help)")


def build_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of the command line, and those of its commands; this loads nothing but the standard library."""
    parser = _Parser(
        prog="fastxai",
        description="Explain every image of a data set with LIME, SHAP and Grad-CAM.",
        epilog=_STATUS_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fastxai {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    parsers: dict[str, argparse.ArgumentParser] = {}
    for module in COMMANDS:
        parsers[module.NAME] = command = commands.add_parser(
            module.NAME,
            **({} if module.HELP is None else {"help": module.HELP}),  # without one, a command is not listed
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(command)
        command.add_argument("--config", metavar="FILE.toml", help="read flags from a TOML file; the command line wins")
        command.set_defaults(execute=module.execute)
    return parser, parsers


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command's arguments, those of a `--config` file included."""
    parser, parsers = build_parser()
    args = _parsed(parser, parsers, argv)
    if args.config is None:
        return args
    first, last = read_flags(args.config, parsers[args.command], args)
    # argv[0] is the command: only --help and --version may stand before it, and they have left already
    return _parsed(parser, parsers, [argv[0], *first, *argv[1:], *last])


def _parsed(
    parser: argparse.ArgumentParser, parsers: dict[str, argparse.ArgumentParser], argv: Sequence[str]
) -> argparse.Namespace:
    """The arguments; words behind a flag belong to the command's list of words, which argparse ends at the first."""
    args, rest = parser.parse_known_args(argv)
    if not rest:
        return args
    command = parsers[args.command]
    lists = [action.dest for action in command._actions if not action.option_strings and action.nargs == "*"]
    ended = rest.index("--") if "--" in rest else len(rest)
    if not lists or any(word.startswith("-") for word in rest[:ended]):
        command.error(f"unrecognized arguments: {' '.join(rest)}")
    setattr(args, lists[0], [*getattr(args, lists[0]), *rest[:ended], *rest[ended + 1 :]])
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own) and return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # file names may hold what the terminal's encoding cannot
            stream.reconfigure(errors="backslashreplace")
    try:
        args = parse(list(sys.argv[1:] if argv is None else argv))
        status: int = args.execute(args)
        sys.stdout.flush()
        return status
    except ArgumentError as error:
        return _complain(error, WRONG_ARGUMENTS)
    except BrokenPipeError:
        # the reader of our output has left (`fastxai info RUN | head`); keep the interpreter from flushing into it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CANNOT_RUN
    except (CannotRun, OSError) as error:
        return _complain(error, CANNOT_RUN)
    except KeyboardInterrupt as stopped:
        return _complain(stopped if stopped.args else "interrupted", INTERRUPTED)


def _complain(what: object, status: int) -> int:
    line = " ".join(str(what).split())
    print(f"fastxai: {line}", file=sys.stderr)
    return status
