"""Ids: valid UTF-8, reversible, and as short as they can be."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastxai.images import escape_id, unescape_id
from fastxai.images.ids import short_names


@given(st.binary(max_size=40))
def test_any_bytes_go_there_and_back(name: bytes) -> None:
    path = os.fsdecode(name)
    id = escape_id(path)
    id.encode("utf-8")  # strict: raises for surrogates
    assert unescape_id(id) == path
    assert os.fsencode(unescape_id(id)) == name


@given(
    st.text(st.characters(exclude_categories=()), max_size=20),
    st.text(st.characters(exclude_categories=()), max_size=20),
)
def test_different_paths_have_different_ids(a: str, b: str) -> None:
    assert unescape_id(escape_id(a)) == a
    assert (escape_id(a) == escape_id(b)) == (a == b)


@pytest.mark.parametrize(
    ("path", "id"),
    [
        (os.fsdecode(b"caf\xe9.png"), r"caf\xe9.png"),
        ("a\\x41.png", r"a\\x41.png"),
        ("line\nbreak \u202e<script>.png", "line\nbreak \u202e<script>.png"),
        ("Käse/日本.png", "Käse/日本.png"),
    ],
)
def test_known_ids(path: str, id: str) -> None:
    assert escape_id(path) == id


def test_short_names_tell_paths_apart() -> None:
    assert short_names(["/a/train", "/b/val"]) == ["train", "val"]
    assert short_names(["/a/x/train", "/a/y/train", "/b"]) == ["x/train", "y/train", "b"]
    assert short_names(["/x/train", "/a/x/train"]) == ["x/train", "a/x/train"]
    assert short_names(["/a", "/a"]) == ["a", "a"]
