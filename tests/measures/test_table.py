"""Plain text tables: alignment by the width that a terminal shows."""

from __future__ import annotations

from fastxai.measures.table import align, printable, shorten


def test_columns_align_and_the_feet_stand_apart() -> None:
    text = align(["image", "IoU", "note"], [["a", "0.5", ""], ["long name", "-", "x"]], [["mean", "0.5"]])
    assert text.splitlines() == [
        "image      IoU  note",
        "--------------------",
        "a          0.5",
        "long name    -     x",
        "--------------------",
        "mean       0.5",
    ]


def test_wide_characters_take_two_columns() -> None:
    lines = align(["i", "v"], [["猫", "1"], ["ab", "2"]]).splitlines()
    assert lines[2] == "猫  1"
    assert lines[3] == "ab  2"


def test_printable_spells_out_what_could_rewrite_a_terminal() -> None:
    assert printable("a\x1b[0m\n\x07é\udcff") == "a\\x1b[0m\\n\\x07é\\udcff"


def test_shorten_keeps_both_ends() -> None:
    assert shorten("abc", 3) == "abc"
    assert shorten("abcdefghij", 5) == "ab…ij"
