"""What the commands print, as text: tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastxai.results import Found, RunSummary


def prediction_rows(found: Found) -> list[list[str]]:
    """Id and best classes with their probabilities of each picture, or why it failed."""
    rows = []
    for position, image_id in enumerate(found.ids):
        if found.status[position]:
            rows.append([image_id, f"failed: {found.errors[position]}"])
            continue
        pairs = zip(found.predictions[position].tolist(), found.probabilities[position].tolist(), strict=True)
        best = [f"{found.class_name(index)} {value:.3f}" for index, value in pairs if index >= 0]
        rows.append([image_id, " | ".join(best)])
    return rows


def timings(summary: RunSummary) -> str:
    """Seconds a method, and images a second altogether."""
    if not summary.images:
        return "nothing left to explain"
    rows = [
        [name, f"{t.seconds:.2f}", f"{t.seconds / summary.images:.3f}", f"{t.rows}", _rate(t.rows, t.seconds)]
        for name, t in summary.timings.items()
    ]
    total = (
        f"{summary.images} images in {duration(summary.seconds)}: {_rate(summary.images, summary.seconds)} images/s"
        f" (and {duration(summary.calibration_seconds)} to calibrate)"
    )
    lines = [table(["method", "seconds", "s/image", "rows", "rows/s"], rows), total]
    if summary.halved:
        cut = ", ".join(f"{kind} {size}" for kind, size in summary.halved.items())
        lines.append(f"memory ran out: rows a chunk were cut to {cut}")
    return "\n".join(lines)


def failures(reasons: Mapping[str, str], limit: int | None) -> str:
    """Failed images and their reasons."""
    rows = [[image_id, reason] for image_id, reason in list(reasons.items())[:limit]]
    text = table(["failed image", "reason"], rows, right=())
    more = len(reasons) - len(rows)
    return f"{text}\n... and {more} more" if more else text


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] | None = None) -> str:
    """Aligned columns under a head and a rule; `right`: columns that stand right (all but the first by default)."""
    from fastxai.measures.table import printable, shorten  # ids and reasons may hold what moves a terminal's cursor

    cells = [list(head), *([shorten(row[0]), *map(printable, row[1:])] for row in rows)]
    right = range(1, len(head)) if right is None else right
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "  ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    ]
    lines.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(line.rstrip() for line in lines)


def size(count: float) -> str:
    """Bytes for people: 12.3 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def count(number: int, word: str) -> str:
    """1 image, 2 images."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds for people: 3.2 s, 4 min 05 s, 3 h 10 min."""
    if seconds == float("inf"):
        return "an unknown time"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def rate(per_second: float) -> str:
    """Things a second with three digits: 0.00327, 3.21, 1230."""
    return f"{per_second:.0f}" if per_second >= 100 else f"{per_second:.3g}"


def _rate(count: int, seconds: float) -> str:
    return rate(count / seconds) if seconds > 0 and count else "-"
