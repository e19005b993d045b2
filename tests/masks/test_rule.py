"""A mask's rule: exactly one, checked, in words, and read from text."""

from __future__ import annotations

import pytest

from fastxai.errors import ArgumentError
from fastxai.masks import MaskRule


@pytest.mark.parametrize(
    ("text", "rule", "words"),
    [
        ("top-segments=7", MaskRule(top_segments=7), "top 7 segments"),
        (" top_fraction=0.05 ", MaskRule(top_fraction=0.05), "top 5% of pixels"),
        ("threshold=.5", MaskRule(threshold=0.5), "pixels of at least 50% of the maximum"),
    ],
)
def test_rules_are_read_and_said(text: str, rule: MaskRule, words: str) -> None:
    assert MaskRule.parse(text) == rule
    assert str(rule) == words


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "rule must be one of top_segments, top_fraction, threshold, got none"),
        ({"top_segments": 1, "threshold": 0.5}, "got top_segments and threshold"),
        ({"top_segments": 0}, "top_segments must be at least 1, got 0"),
        ({"top_fraction": 0.0}, "top_fraction must be a number above 0 and at most 1"),
        ({"threshold": 1.5}, "threshold must be a number above 0 and at most 1"),
    ],
)
def test_wrong_rules_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        MaskRule(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["top_segments", "best=3", "", "=3"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="rule must look like top_segments=N, top_fraction=N, threshold=N"):
        MaskRule.parse(text)


@pytest.mark.parametrize("text", ["top_segments=1.5", "threshold=half"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="must be a number, got"):
        MaskRule.parse(text)
