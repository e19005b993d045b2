"""Names that come from outside."""

from __future__ import annotations

import pytest

from fastxai.report.names import class_label, cut, cut_middle, file_stem, method_label


@pytest.mark.parametrize(
    ("image_id", "stem"),
    [
        ("chelsea.png", "0003-chelsea"),
        ("birds/owl 1.jpeg", "0003-birds-owl-1"),
        ("../../etc/passwd", "0003-etc-passwd"),
        ("..", "0003"),
        ("", "0003"),
        (".hidden", "0003-hidden"),
        ("a\nb\x00c\x1b.png", "0003-a-b-c"),
        ("C:\\x\\y.png", "0003-C-x-y"),
        ("\udcff.png", "0003"),
        ("Übung/猫.webp", "0003-Übung-猫"),
        ("v1.2/x", "0003-v1.2-x"),
        ("a..b/c", "0003-a-b-c"),
    ],
)
def test_file_stem(image_id: str, stem: str) -> None:
    assert file_stem(3, image_id) == stem


def test_file_stem_is_short_enough_for_every_file_system() -> None:
    name = file_stem(123456, "猫" * 500 + "/" + "ß" * 500 + ".png")
    assert len(name.encode()) < 240
    assert name.startswith("123456-")


def test_class_label_is_the_first_synonym() -> None:
    assert class_label("tabby, tabby cat") == "tabby"
    assert class_label(", odd") == ", odd"
    assert class_label("x" * 40, 10) == "x" * 9 + "…"


def test_method_label() -> None:
    assert method_label("gradcam", "gradcam") == "Grad-CAM"
    assert method_label("lime-500", "lime") == "LIME · lime-500"
    assert method_label("new", "new") == "new"


def test_cuts_stay_in_one_line() -> None:
    assert cut("a\n b", 5) == "a b"
    assert cut_middle("abcdefghij", 7) == "ab…ghij"
    assert len(cut_middle("x" * 100, 60)) == 60
