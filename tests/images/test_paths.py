"""Files, folders, globs: which files count, and what they are called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from fastxai.errors import ArgumentError, CannotRun, ImageError
from fastxai.images import open_source, unescape_id
from fastxai.images.paths import picture_extensions


def picture(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), colour).save(path, "PNG")
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for name in ("b.png", "a.JPG", "dog/2.png", "dog/10.png", "cat/deep/x.webp", ".hidden.png", ".git/y.png"):
        picture(root / name)
    (root / "notes.txt").write_text("no picture")
    (root / "data.h5").write_bytes(b"")
    return root


def test_a_folder_is_taken_with_all_below_it(tree: Path) -> None:
    source = open_source(tree)
    assert source.ids == ["a.JPG", "b.png", "cat/deep/x.webp", "dog/10.png", "dog/2.png"]
    assert [entry.label for entry in source] == ["set", "set", "deep", "dog", "dog"]
    assert len(source) == 5
    assert source[1].read().data == (tree / "b.png").read_bytes()
    assert source[1:3].ids == source.ids[1:3]


def test_a_trailing_slash_and_the_current_folder_change_nothing(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = open_source(tree).ids
    assert open_source(f"{tree}/").ids == expected
    monkeypatch.chdir(tree)
    assert open_source(".").ids == expected
    assert open_source([".", str(tree)]).ids == expected  # one source, named twice


def test_several_sources_give_their_name(tree: Path, tmp_path: Path) -> None:
    other = picture(tmp_path / "other" / "z.png")
    assert open_source([tree / "dog", other.parent]).ids == ["dog/10.png", "dog/2.png", "other/z.png"]
    assert open_source([tree / "dog", other]).ids == ["dog/10.png", "dog/2.png", "z.png"]


def test_sources_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for part in ("x", "y"):
        picture(tmp_path / part / "train" / "1.png")
    assert open_source([tmp_path / "x/train", tmp_path / "y/train"]).ids == ["x/train/1.png", "y/train/1.png"]
    assert open_source([tmp_path / "x/train/1.png", tmp_path / "y/train/1.png"]).ids == [
        "x/train/1.png",
        "y/train/1.png",
    ]


def test_ids_of_files_do_not_depend_on_how_many_are_named(tree: Path) -> None:
    assert open_source(tree / "dog/2.png").ids == ["2.png"]
    assert open_source([tree / "dog/2.png", tree / "b.png"]).ids == ["2.png", "b.png"]
    assert [entry.label for entry in open_source(tree / "dog/2.png")] == ["dog"]


def test_a_file_is_explained_once(tree: Path) -> None:
    file = tree / "dog" / "2.png"
    assert open_source([file, file, f"{tree}/dog/../dog/2.png"]).ids == ["2.png"]
    assert open_source([tree, tree / "dog", file]).ids == [
        "set/a.JPG",
        "set/b.png",
        "set/cat/deep/x.webp",
        "set/dog/10.png",
        "set/dog/2.png",
    ]


def test_globs(tree: Path) -> None:
    assert open_source(str(tree / "dog" / "*.png")).ids == ["10.png", "2.png"]
    assert open_source(str(tree / "*" / "*.png")).ids == ["dog/10.png", "dog/2.png"]
    assert open_source(str(tree / "[dc]*")).ids == ["cat/deep/x.webp", "dog/10.png", "dog/2.png"]
    everything = ["a.JPG", "b.png", "cat/deep/x.webp", "dog/10.png", "dog/2.png"]
    assert open_source(str(tree / "**")).ids == everything
    assert open_source(str(tree / "**" / "*")).ids == everything
    assert open_source(str(tree / "**" / "cat*")).ids == ["cat/deep/x.webp"]  # a folder: all below it
    assert open_source(str(tree / "**" / "deep" / "**" / "*.webp")).ids == ["cat/deep/x.webp"]
    assert open_source([str(tree / "*.png"), str(tree / "*.JPG")]).ids == ["set/b.png", "set/a.JPG"]


def test_a_name_with_wildcards_that_exists_is_that_file(tmp_path: Path) -> None:
    file = picture(tmp_path / "a[1].png")
    picture(tmp_path / "a1.png")
    assert open_source(str(file)).ids == ["a[1].png"]


def test_a_file_that_was_named_counts_whatever_it_is(tree: Path) -> None:
    assert open_source(tree / "data.h5").ids == ["data.h5"]
    assert open_source(tree / ".hidden.png").ids == [".hidden.png"]


@pytest.mark.timeout(20)  # a loop that is followed never ends
def test_circles_of_links_end(tree: Path) -> None:
    before = open_source(tree).ids
    (tree / "dog" / "up").symlink_to(tree)
    (tree / "aaa").symlink_to(tree / "dog")  # sorts before the real folder, which wins all the same
    (tree / "self").symlink_to(tree / "self")
    assert open_source(tree).ids == before
    assert open_source(str(tree / "**" / "*.png")).ids == ["b.png", "dog/10.png", "dog/2.png"]


def test_links_to_files_and_folders_elsewhere_are_followed(tree: Path, tmp_path: Path) -> None:
    picture(tmp_path / "else" / "q.png")
    (tree / "link").symlink_to(tmp_path / "else")
    (tree / "one.png").symlink_to(tmp_path / "else" / "q.png")
    ids = open_source(tree).ids
    assert "link/q.png" in ids
    assert "one.png" in ids


def test_odd_names_are_kept(tmp_path: Path) -> None:
    names = [
        b"new\nline.png",
        b"caf\xe9.png",
        b"back\\slash.png",
        "\u202eltr.png".encode(),
        b"<script>.png",
        b"..x.png",
    ]
    for name in names:
        path = os.path.join(os.fsencode(tmp_path), name)
        with open(path, "wb") as file:
            Image.new("L", (2, 2)).save(file, "PNG")
    source = open_source(tmp_path)
    assert {os.fsencode(unescape_id(id)) for id in source.ids} == set(names) - {b"..x.png"}  # hidden: starts with a dot
    for entry in source:
        entry.id.encode("utf-8")
        assert len(entry.read().digest) == 32


@pytest.mark.timeout(20)  # opening a FIFO waits
def test_what_is_no_file_has_a_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "empty.png").write_bytes(b"")
    source = open_source(tmp_path)
    reasons = {}
    for entry in source:
        with pytest.raises(ImageError) as caught:
            entry.read()
        reasons[entry.id] = str(caught.value)
    assert reasons == {
        "empty.png": "file is empty",
        "fifo.png": "is not a file but a FIFO",
        "gone.png": "is a link to nothing",
    }


def test_a_folder_named_like_a_picture_is_a_folder(tmp_path: Path) -> None:
    picture(tmp_path / "folder.png" / "a.png")
    assert open_source(tmp_path).ids == ["folder.png/a.png"]


def test_wrong_paths_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "here" / "x.png")
    monkeypatch.chdir(tmp_path / "here")  # where "" must not stand for the current folder
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArgumentError, match="IMAGES must name at least one picture, got none in '.*empty'"):
        open_source(tmp_path / "empty")
    with pytest.raises(
        ArgumentError, match="IMAGES must be files, folders, globs, lists or tar shards that exist, got '.*missing'"
    ):
        open_source(tmp_path / "missing")
    with pytest.raises(ArgumentError, match="got none in"):
        open_source(str(tmp_path / "*.png"))
    for wrong in ("", "a\0b", []):
        with pytest.raises(ArgumentError):
            open_source(wrong)


def test_two_pictures_never_share_an_id(tmp_path: Path) -> None:
    picture(tmp_path / "p" / "a" / "x.png")
    one = picture(tmp_path / "q" / "a" / "x.png")
    two = picture(tmp_path / "r" / "x.png")
    with pytest.raises(ArgumentError, match="its own id, got 'a/x.png'"):
        open_source([tmp_path / "p" / "a", one, two])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list any folder")
def test_a_folder_that_cannot_be_listed_is_not_skipped_silently(tree: Path) -> None:
    (tree / "dog").chmod(0)
    try:
        with pytest.raises(CannotRun, match="cannot be listed"):
            open_source(tree)
    finally:
        (tree / "dog").chmod(0o755)


def test_labels_of_named_files(tree: Path) -> None:
    source = open_source([tree / "b.png", tree / "a.JPG"], labels=[3, "dog"])
    assert [entry.label for entry in source] == [3, "dog"]
    with pytest.raises(ArgumentError, match=r"labels must be one per file \(1\), got 2"):
        open_source([tree / "b.png"], labels=[1, 2])
    with pytest.raises(ArgumentError, match="labels must come with files named one by one"):
        open_source([tree], labels=[1])


def test_pictures_are_known_by_extension() -> None:
    known = picture_extensions()
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".bmp", ".gif", ".heic"} <= known
    assert not {".h5", ".pdf", ".txt", ".mpg", ".grib", ".py"} & known
