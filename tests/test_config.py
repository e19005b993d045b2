"""Methods, models and rules as words on the command line."""

from __future__ import annotations

import pytest

from fastxai.config import Call, parse_call
from fastxai.errors import ArgumentError


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("lime", {}),
        ("lime:samples=50,name=other", {"samples": 50, "name": "other"}),
        ("lime(samples=50)", {"samples": 50}),
        ("lime:a=true,b=None,c=0.5,d=1e-3", {"a": True, "b": None, "c": 0.5, "d": 1e-3}),
        ("lime:fill=[1,2,3],segments=slic(segments=9)", {"fill": (1, 2, 3), "segments": Call("slic", {"segments": 9})}),
        ("gradcam:layer=3", {"layer": 3}),
        ('gradcam:layer="3"', {"layer": "3"}),
        ("gradcam:layer=['0','3']", {"layer": ("0", "3")}),
        ("random:name='a, b (c', top-k=2", {"name": "a, b (c", "top_k": 2}),
        ("random:name=''", {"name": ""}),
    ],
)
def test_words(text: str, options: dict[str, object]):
    name = text.split(":")[0].split("(")[0]
    assert parse_call(text, "method") == Call(name, options)


@pytest.mark.parametrize("text", ["", "3", "lime(samples=3", "lime samples=3", "lime:samples", "lime:=3"])
def test_what_is_no_call_is_named(text: str):
    with pytest.raises(ArgumentError, match="method must look like name|option of method must look like option=value"):
        parse_call(text, "method")
