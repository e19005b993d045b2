"""The errors that fastxai raises on purpose; each message says what to do.

Anything else that escapes is a bug. The command line turns `ArgumentError` into exit status 2 and
`CannotRun` into exit status 1, in one line each.
"""

from __future__ import annotations


class ArgumentError(ValueError):
    """An argument has a wrong value: "name must ..., got ..."."""


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument has a wrong type: "name must be ..., got ..."."""


class CannotRun(RuntimeError):
    """The arguments are fine, the surroundings are not: a full disk, a missing download, a damaged file."""


class MissingExtra(CannotRun, ImportError):
    """An optional part is not installed; the message names the extra that brings it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional part: pip install 'fastxai[{extra}]'")
        self.what, self.extra = what, extra


class ImageError(Exception):
    """One image cannot be explained; the message is the reason kept in its row. Never ends a run."""


class SchemaError(CannotRun):
    """A file or folder is not a run of a schema that this version reads."""


class RunMismatch(ArgumentError):
    """A run exists already and was made with another configuration; the message names the difference."""
