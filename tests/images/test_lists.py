"""Lists of pictures with labels."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from fastxai.errors import ArgumentError
from fastxai.images import open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "sub/b c.png", "sub/d,e.png", "../outside.png"):
        path = tmp_path / "lists" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(path)
    return tmp_path / "lists"


def rows(path: Path) -> list[tuple[str, object]]:
    return [(entry.id, entry.label) for entry in open_source(path)]


def test_text(folder: Path) -> None:
    text = f"# comment\n\nsub/b c.png\t7\r\n./a.png\n{folder}/sub/d,e.png\n../outside.png\n"
    (folder / "list.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())  # with a byte order mark
    assert sorted(rows(folder / "list.txt"), key=str) == [
        ("../outside.png", folder.parent.name),
        ("a.png", "lists"),
        ("sub/b c.png", "7"),
        ("sub/d,e.png", "sub"),
    ]
    assert all(entry.read().digest for entry in open_source(folder / "list.txt"))


@pytest.mark.parametrize(
    "text",
    [
        'path,label\na.png,cat\n"sub/d,e.png",12\n',
        'id,Label,Path\n1,cat,a.png\n# no row\n2,12,"sub/d,e.png"\n',
        'a.png, cat\n\n"sub/d,e.png", 12\n',
    ],
)
def test_csv(folder: Path, text: str) -> None:
    (folder / "list.csv").write_text(text)
    assert rows(folder / "list.csv") == [("a.png", "cat"), ("sub/d,e.png", "12")]


def test_csv_without_labels_takes_them_from_folders(folder: Path) -> None:
    (folder / "list.csv").write_text("path\nsub/b c.png\n")
    assert rows(folder / "list.csv") == [("sub/b c.png", "sub")]


def test_a_listed_file_that_is_missing_is_a_failed_row_later(folder: Path) -> None:
    (folder / "list.txt").write_text("a.png\nmissing.png\n")
    assert [id for id, _ in rows(folder / "list.txt")] == ["a.png", "missing.png"]
    (folder / "list.txt").write_text("missing.png\n")
    with pytest.raises(ArgumentError, match="relative to its folder"):
        open_source(folder / "list.txt")


def test_each_file_once_with_one_label(folder: Path) -> None:
    (folder / "list.txt").write_text("a.png\n./a.png\tcat\na.png\tcat\n")
    assert rows(folder / "list.txt") == [("a.png", "cat")]
    (folder / "list.txt").write_text("a.png\tdog\na.png\tcat\n")
    with pytest.raises(ArgumentError, match="one label, got two for 'a.png'"):
        open_source(folder / "list.txt")


def test_names_that_are_not_utf8(folder: Path) -> None:
    name = os.fsencode(folder) + b"/caf\xe9.png"
    with open(name, "wb") as file:
        Image.new("L", (2, 2)).save(file, "PNG")
    (folder / "list.txt").write_bytes(b"caf\xe9.png\n")
    source = open_source(folder / "list.txt")
    assert source.ids == [r"caf\xe9.png"]
    assert source[0].read().data


def test_wrong_lists(folder: Path) -> None:
    (folder / "empty.txt").write_text("# nothing\n")
    with pytest.raises(ArgumentError, match="at least one picture"):
        open_source(folder / "empty.txt")
    (folder / "wide.csv").write_text("a.png,cat,3\n")
    with pytest.raises(ArgumentError, match="columns named path and label"):
        open_source(folder / "wide.csv")


def test_lists_among_several_sources_give_their_name(folder: Path) -> None:
    (folder / "birds.txt").write_text("a.png\n")
    assert open_source([folder / "birds.txt", folder / "sub"]).ids == ["birds/a.png", "sub/b c.png", "sub/d,e.png"]
