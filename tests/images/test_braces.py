from __future__ import annotations

import pytest

from fastxai.errors import ArgumentError
from fastxai.images.braces import expand_braces


@pytest.mark.parametrize(
    ("path", "paths"),
    [
        ("a.tar", ["a.tar"]),
        ("{08..11}.tar", ["08.tar", "09.tar", "10.tar", "11.tar"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{000..2}", ["000", "001", "002"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,bc,}x", ["ax", "bcx", "x"]),
        ("{a,b}/{1..2}.tar", ["a/1.tar", "a/2.tar", "b/1.tar", "b/2.tar"]),
        ("{}", ["{}"]),
        ("{a}", ["{a}"]),
        ("{a..b}", ["{a..b}"]),
        ("{1..2", ["{1..2"]),
        ("", [""]),
    ],
)
def test_braces_are_written_out(path: str, paths: list[str]) -> None:
    assert expand_braces(path) == paths


@pytest.mark.parametrize("path", ["{0..9999999999999}", "{0..999}{0..999}{0..999}"])
def test_too_many_are_refused_before_any_is_made(path: str) -> None:
    with pytest.raises(ArgumentError, match="IMAGES must name at most 1,000,000 paths by braces"):
        expand_braces(path)
