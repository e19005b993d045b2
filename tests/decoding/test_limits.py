"""Limits check themselves."""

from __future__ import annotations

from typing import Any

import pytest

from fastxai.decoding import LIMITS, MAX_PIXELS, DecodeLimits
from fastxai.errors import ArgumentError


def test_the_usual_limits() -> None:
    assert DecodeLimits(30.0, MAX_PIXELS, 4 << 30) == LIMITS
    assert LIMITS.pixels == 100_000_000


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"seconds": 0}, "seconds must be a number above 0 and at most 86400, got 0"),
        ({"seconds": float("nan")}, "seconds must be a number above 0"),
        ({"seconds": 1e9}, "seconds must be"),
        ({"seconds": "30"}, "seconds must be a number, got '30'"),
        ({"pixels": 0}, "pixels must be at least 1, got 0"),
        ({"pixels": 1.5}, "pixels must be a whole number, got 1.5"),
        ({"memory": 1 << 20}, "memory must be at least 268435456, got 1048576"),
    ],
)
def test_wrong_limits_are_refused(options: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ArgumentError, match=wanted):
        DecodeLimits(**options)
