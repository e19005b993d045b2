"""How many rows an image has next where that is decided on the way."""

from __future__ import annotations

from typing import Any

from fastxai.config import check_float, check_int
from fastxai.errors import ArgumentError

AUTO = "auto"
FIRST = 128  # rows before the first look
EXPECTED = 512  # of an image, for forecasts: nobody knows before it was seen
_LEAST, _MOST = 1.1, 2.0  # rounds grow by no less and no more


def check_samples(samples: Any, tolerance: float, most: int, least: int) -> None:
    """samples: a number, or "auto" for as many as the tolerance takes; `ArgumentError` otherwise."""
    if samples != AUTO:
        if isinstance(samples, str):
            raise ArgumentError(f'samples must be a whole number or "auto", got {samples!r}')
        check_int("samples", samples, least)
    check_float("tolerance", tolerance, 0, above=True)
    check_int("most", most, FIRST)


def next_rows(have: int, error: float, tolerance: float, most: int) -> int:
    """Rows an image is to have in all: `have` where its error is small enough, or where it has `most`.

    The error goes down with the root of the rows or faster: most of the way to the rows that would then be needed.
    """
    if not have:
        return min(FIRST, most)
    if not error > tolerance:  # also where it is NaN: more rows would not help
        return have
    growth = min(_MOST, max(_LEAST, (error / tolerance) ** 1.5))
    return min(most, 2 * -(-int(growth * have) // 2))
