"""Numbers of measures as text for people, and as plain JSON data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastxai.measures.summary import Summary


def number(value: float) -> str:
    """Four digits, or - for NaN."""
    return "-" if math.isnan(value) else f"{value:.4f}"


def between(interval: tuple[float, float] | None) -> str:
    """`0.1000 to 0.2000`, or - for none."""
    return "-" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def plural(count: int, word: str) -> str:
    """`1 image`, `12,000 images`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def finite(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value


def exact(value: float) -> str:
    """The number in full for CSV, "" for NaN."""
    return "" if math.isnan(value) else repr(value)


def summary_dict(summary: Summary) -> dict[str, Any]:
    """count, mean, median and the interval of the mean, with None for what does not exist."""
    return {
        "count": summary.count,
        "mean": finite(summary.mean),
        "median": finite(summary.median),
        "interval": None if summary.interval is None else list(summary.interval),
    }


def summary_cells(measure: str, summary: Summary) -> dict[str, str]:
    """The same as cells of CSV: iou_mean, iou_median, iou_low, iou_high."""
    low, high = summary.interval or (math.nan, math.nan)
    values = {"mean": summary.mean, "median": summary.median, "low": low, "high": high}
    return {f"{measure}_{name}": exact(value) for name, value in values.items()}


def left_out_line(left_out: Mapping[str, int]) -> str:
    """`left out: 3 failed, 1 without a finite map of gradcam`, or "" where nothing was."""
    parts = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items() if count)
    return f"left out: {parts}" if parts else ""
