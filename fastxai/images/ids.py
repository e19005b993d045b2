r"""Ids of files: text that is always valid UTF-8 and gives the path back exactly.

A path is bytes. Python keeps those that are not UTF-8 as lone surrogates (`os.fsdecode`), which neither HDF5 nor
JSON takes. `escape_id` writes such a byte as `\xNN` and a backslash as `\\`; `unescape_id` is its inverse. Any
other character, a newline too, stands for itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

_SPECIAL = re.compile(r"[\\\ud800-\udfff]")
_ESCAPED = re.compile(r"\\(\\|x([89a-f][0-9a-f])|u(d[89a-f][0-9a-f]{2}))")


def escape_id(path: str) -> str:
    r"""`path` (as `os.fsdecode` gives it) with `/` between its parts, `\xNN` for odd bytes and `\\` for a backslash."""
    return _SPECIAL.sub(_escape, path if os.sep == "/" else path.replace(os.sep, "/"))


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    if character == "\\":
        return "\\\\"
    code = ord(character)
    # only 0xdc80..0xdcff come from a file system; text from a list may hold any surrogate
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def unescape_id(id: str) -> str:
    """The path that `escape_id` was given."""
    return _ESCAPED.sub(_unescape, id)


def _unescape(match: re.Match[str]) -> str:
    if match.group(2):
        return chr(0xDC00 + int(match.group(2), 16))
    if match.group(3):
        return chr(int(match.group(3), 16))
    return "\\"


def short_names(paths: Sequence[str]) -> list[str]:
    """The shortest trailing part of each absolute path that no other path ends with: its name, mostly.

    ["/a/x/train", "/a/y/train", "/b"] -> ["x/train", "y/train", "b"]. Equal paths cannot be told apart.
    """
    parts = [[part for part in path.split(os.sep) if part] for path in paths]
    depth = [1] * len(paths)
    while True:
        names = ["/".join(part[-d:]) for part, d in zip(parts, depth, strict=True)]
        count: dict[str, int] = {}
        for name in names:
            count[name] = count.get(name, 0) + 1
        grow = [i for i, name in enumerate(names) if count[name] > 1 and depth[i] < len(parts[i])]
        if not grow:
            return names
        for i in grow:
            depth[i] += 1
