"""Labels: what a place says, and which class it means."""

from __future__ import annotations

import numpy as np
import pytest

from fastxai.images import resolve_label
from fastxai.images.labels import path_label

NAMES = ("tench, Tinca tinca", "crane", "Crane", "drilling_platform", "7", "goldfish, Carassius auratus")
KEYS = ("n01440764", "n02012849", "n03126707", "n03240683", "n00000007", "n01443537")


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (None, -1),
        (3, 3),
        (np.int64(3), 3),
        (6, -1),
        (-1, -1),
        (True, -1),
        ("3", 3),
        ("99", -1),
        ("7", 4),  # a class of this name comes before class number 7
        ("tench", 0),
        ("TENCH, tinca tinca", 0),
        ("Tench__Tinca", -1),
        ("drilling platform", 3),
        ("crane", -1),  # two classes
        ("n01443537", 5),
        ("n01443537_goldfish", 5),
        ("n01443537_12", 5),
        ("n99999999_goldfish", 5),  # the id is not known, the name is
        ("n99999999_whatever", -1),
        ("n014435370", -1),
        ("", -1),
        ("²", -1),
    ],
)
def test_a_label_means_a_class(label: object, expected: int) -> None:
    assert resolve_label(label, NAMES, KEYS) == expected  # type: ignore[arg-type]


def test_without_names_numbers_are_class_ids() -> None:
    assert resolve_label("12") == 12
    assert resolve_label(12) == 12
    assert resolve_label("cat") == -1
    assert resolve_label(6, None, KEYS) == -1


def test_names_work_without_wordnet_ids() -> None:
    assert resolve_label("n01443537_goldfish", NAMES) == 5
    assert resolve_label("n01443537", NAMES) == -1


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/d/cat/a.png", "/d", "cat"),
        ("/d/x/cat/a.png", "/d", "cat"),
        ("/d/cat/n01443537_3.png", "/d", "cat"),
        ("/d/n01443537_3.png", "/d", "n01443537_3"),
        ("/d/n0144353_3.png", "/d", "d"),
        ("/a.png", "/", None),
    ],
)
def test_where_a_file_lies_gives_its_label(path: str, root: str, expected: str | None) -> None:
    assert path_label(path, root) == expected
