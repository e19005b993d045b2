"""Tables as aligned plain text, safe to print whatever the ids hold."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence

_WIDEST = 60  # columns an id may take


def align(
    head: Sequence[str],
    body: Sequence[Sequence[str]],
    feet: Sequence[Sequence[str]] = (),
    *,
    right: Collection[int] = (1, 2),
) -> str:
    """Lines with a head, a rule, the body, and the feet under a rule of their own; no blanks at the end of a line.

    right: the columns that stand right, those of numbers.
    """
    shown = [[shorten(cell) if not column else printable(cell) for column, cell in enumerate(row)] for row in body]
    table = [list(head), *shown, *(list(row) for row in feet)]
    widths = [max(_width(row[column]) for row in table if column < len(row)) for column in range(len(head))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [_line(row, widths, right) for row in table]
    parts = [lines[:1], lines[1 : 1 + len(shown)], lines[1 + len(shown) :]]
    return f"\n{rule}\n".join("\n".join(part) for part in parts if part)


def printable(text: str) -> str:
    """`text` in one line without control characters, which could rewrite a terminal: they are spelt out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def shorten(text: str, widest: int = _WIDEST) -> str:
    """`printable(text)` with its middle left out where it is wider than `widest` columns."""
    text = printable(text)
    if _width(text) <= widest:
        return text
    start, end = text[: widest // 2], text[-widest // 2 :]
    while _width(start) + _width(end) + 1 > widest:
        start, end = (start[:-1], end) if _width(start) >= _width(end) else (start, end[1:])
    return f"{start}…{end}"


def _width(text: str) -> int:
    """Columns of a terminal: wide characters take two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _line(row: Sequence[str], widths: Sequence[int], right: Collection[int]) -> str:
    cells = []
    for column, (cell, width) in enumerate(zip(row, widths, strict=False)):
        blank = " " * (width - _width(cell))
        cells.append(blank + cell if column in right else cell + blank)
    return "  ".join(cells).rstrip()
