"""Flags from a TOML file: the same names and values as on the command line.

    images = ["photos"]
    explainer = ["lime:samples=500", "gradcam"]
    out = "runs/birds"
    no-pixels = true

Flags stand at the top or under a table with the command's name. They are put in front of the command line's own
flags and read by the same parser, so that there is one set of checks and the command line wins.
"""

from __future__ import annotations

import argparse
import tomllib
from typing import Any

from fastxai.errors import ArgumentError


def read_flags(path: str, parser: argparse.ArgumentParser, given: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The file as arguments: flags to stand first, positional ones to stand last.

    parser: of the command. given: what the command line says itself; a list given there replaces the file's.
    Raises `ArgumentError` for what is not a flag of the command, `OSError` for a file that cannot be read.
    """
    command = parser.prog.split()[-1]
    try:
        with open(path, "rb") as file:
            data = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ArgumentError(f"--config must be a TOML file, got {path}: {error}") from error
    # tables of other commands may stand in the same file
    values = {key: value for key, value in data.items() if not isinstance(value, dict)}
    values |= data.get(command, {})

    actions = {_key(name): action for action in parser._actions for name in (*action.option_strings, action.dest)}
    flags: list[str] = []
    positional: list[str] = []
    for key, value in values.items():
        action = actions.get(_key(key))
        if action is None or action.dest in ("help", "config"):
            known = sorted({_name(a) for a in parser._actions} - {"help", "config"})
            raise ArgumentError(f"{path}: {key!r} must be a flag of {parser.prog} ({', '.join(known)})")
        items = value if isinstance(value, list) else [value]
        takes_list = isinstance(action, argparse._AppendAction) or action.nargs in ("*", "+")
        if (not takes_list and len(items) != 1) or any(isinstance(item, (dict, list)) for item in items):
            raise ArgumentError(f"{path}: {key} must be {'a list of values' if takes_list else 'one value'}")
        if takes_list and getattr(given, action.dest):
            continue
        if not action.option_strings:
            positional += [str(item) for item in items]
        elif action.nargs == 0:
            if not isinstance(value, bool):
                raise ArgumentError(f"{path}: {key} must be true or false, got {value!r}")
            flags += [action.option_strings[-1]] * value
        else:
            flags += [f"{action.option_strings[-1]}={_text(item, path, key)}" for item in items]
    return flags, ["--", *positional] if positional else []


def _key(name: str) -> str:
    return name.lstrip("-").replace("_", "-")


def _name(action: argparse.Action) -> str:
    return _key(action.option_strings[-1] if action.option_strings else action.dest)


def _text(value: Any, path: str, key: str) -> str:
    if isinstance(value, bool):
        raise ArgumentError(f"{path}: {key} must have a value, got {str(value).lower()}")
    return str(value)
