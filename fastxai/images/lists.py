"""Lists of pictures with labels: a `.txt` or `.csv` file that names one picture a line."""

from __future__ import annotations

import csv
import io
import os

from fastxai.errors import ArgumentError, CannotRun
from fastxai.images.entry import Label


def read_list(path: str) -> list[tuple[str, Label]]:
    """(path, label or None) of each line, each file once; the path normalised, absolute only where the list has it so.

    `.txt`: a path a line, or path, tab, label. `.csv`: columns named `path` and `label` (others are ignored), or
    without such a header one or two columns. Paths are absolute or relative to the list's folder. Blank lines and
    lines that start with `#` are skipped (`./#1.png` names a file that starts so).
    """
    root = os.path.dirname(os.path.abspath(path))
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8-sig", "surrogateescape")  # paths are bytes: keep those that are not UTF-8
    except OSError as error:
        raise CannotRun(f"list {path!r} cannot be read: {error.strerror}") from error
    rows = _csv_rows(text, path) if path.lower().endswith(".csv") else _text_rows(text)
    found: dict[str, Label] = {}
    for name, label in rows:
        name = os.path.normpath(name)
        if label is not None and found.get(name) not in (None, label):
            raise ArgumentError(f"list {path!r} must give a picture one label, got two for {name!r}")
        found[name] = found.get(name) or label
    if found and not any(os.path.lexists(os.path.join(root, name)) for name in found):
        raise ArgumentError(f"list {path!r} must name files relative to its folder or absolute, got none that exists")
    return list(found.items())


def _text_rows(text: str) -> list[tuple[str, Label]]:
    rows: list[tuple[str, Label]] = []
    for line in text.split("\n"):
        name, _, label = line.rstrip("\r").partition("\t")
        if name.strip() and not name.startswith("#"):
            rows.append((name.strip(), label.strip() or None))
    return rows


def _csv_rows(text: str, path: str) -> list[tuple[str, Label]]:
    try:
        table = [
            [cell.strip() for cell in row]
            for row in csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
            if any(cell.strip() for cell in row) and not row[0].startswith("#")
        ]
    except csv.Error as error:
        raise ArgumentError(f"list {path!r} must be a CSV table, got: {error}") from error
    if not table:
        return []
    header = [cell.lower() for cell in table[0]]
    name_column, label_column = 0, 1
    if "path" in header:
        table = table[1:]
        name_column = header.index("path")
        label_column = header.index("label") if "label" in header else -1
    elif max(len(row) for row in table) > 2:
        raise ArgumentError(f"list {path!r} must have columns named path and label, or one or two columns")
    rows: list[tuple[str, Label]] = []
    for row in table:
        if len(row) > name_column and row[name_column]:
            label = row[label_column] if 0 <= label_column < len(row) else ""
            rows.append((row[name_column], label or None))
    return rows
