"""Braces in paths, as webdataset and shells write many shards: `{000..012}` and `{train,val}`."""

from __future__ import annotations

import itertools
import re

from fastxai.errors import ArgumentError

_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{},]*(?:,[^{},]*)+))\}")
_MOST = 1_000_000


def expand_braces(path: str) -> list[str]:
    """Every path that `path` stands for, in order; itself where it has no braces.

    `{a..b}` counts from a to b, or down, with as many digits as they have where one begins with 0.
    Raises `ArgumentError` above a million.
    """
    parts: list[list[str]] = []
    end, count = 0, 1
    for match in _BRACES.finditer(path):
        low, high, words = match.groups()
        count *= abs(int(high) - int(low)) + 1 if words is None else words.count(",") + 1
        if count > _MOST:
            raise ArgumentError(f"IMAGES must name at most {_MOST:,} paths by braces, got {path!r}")
        parts += [[path[end : match.start()]], _numbers(low, high) if words is None else words.split(",")]
        end = match.end()
    return ["".join(pieces) for pieces in itertools.product(*parts, [path[end:]])]


def _numbers(low: str, high: str) -> list[str]:
    first, last, width = int(low), int(high), max(len(low), len(high))
    padded = low.startswith("0") or high.startswith("0")
    step = 1 if last >= first else -1
    return [f"{number:0{width if padded else 1}d}" for number in range(first, last + step, step)]
