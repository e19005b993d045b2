"""Configuration is frozen data: one base for explainers and segmenters.

A configuration is a frozen dataclass with a `method` name. It checks itself once, prints itself, turns into
plain JSON data and back, and can be read from the short text of the command line:

    lime:samples=500,segments=slic(segments=50),fill=mean
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from fastxai.errors import ArgumentError, ArgumentTypeError, CannotRun

C = TypeVar("C", bound="Config")


@dataclasses.dataclass(frozen=True)
class Config:
    """Base of every configuration. Subclasses are frozen dataclasses that set `method`."""

    method: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain JSON data, `method` first: what it was made with, without what follows from it."""
        data: dict[str, Any] = {"method": self.method}
        for field in (field for field in dataclasses.fields(self) if field.init):
            value = getattr(self, field.name)
            if isinstance(value, Config):
                value = value.to_dict()
            elif isinstance(value, tuple):
                value = list(value)
            data[field.name] = value
        return data


class Registry:
    """Names of configurations -> where their class is, imported only when asked for.

    `places` maps a method name to "module:Class". group: of entry points by which other packages add to them; one that
    has the name of ours is never used.
    """

    def __init__(self, kind: str, places: Mapping[str, str], group: str = "") -> None:
        self.kind, self.places, self.group = kind, dict(places), group

    def names(self) -> list[str]:
        """All that can be asked for, those of other packages too."""
        from fastxai.plugins import find_plugins  # decoder processes, which load this module, need no metadata

        others = [plugin.name for plugin in find_plugins(self.group)] if self.group else []
        return sorted({*self.places, *others})

    def find(self, name: str) -> type[Config]:
        """The class called `name`; `ArgumentError` lists the names that exist."""
        if name not in self.places:
            return self._find_elsewhere(name)
        module, _, attribute = self.places[name].partition(":")
        found: type[Config] = getattr(importlib.import_module(module), attribute)
        return found

    def _find_elsewhere(self, name: str) -> type[Config]:
        from fastxai.plugins import find_plugin

        plugin = find_plugin(self.group, name) if self.group else None
        if plugin is None:
            raise ArgumentError(f"{self.kind} must be one of {', '.join(self.names())}, got {name!r}")
        found = plugin.load()
        if not (isinstance(found, type) and issubclass(found, Config) and getattr(found, "method", None) == name):
            raise CannotRun(f"{plugin} cannot be used: {plugin.value} is no configuration whose method is {name!r}")
        return found

    def build(self, name: str, options: Mapping[str, Any]) -> Any:
        """The configuration called `name` with `options`; an unknown option is refused by name."""
        found = self.find(name)
        known = [field.name for field in dataclasses.fields(found) if field.init]
        for option in options:
            if option not in known:
                raise ArgumentError(f"option of {self.kind} {name!r} must be one of {', '.join(known)}, got {option!r}")
        return found(**options)

    def from_dict(self, data: Mapping[str, Any]) -> Any:
        """The configuration that `Config.to_dict` described."""
        options = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items() if key != "method"}
        return self.build(data["method"], options)

    def parse(self, text: str) -> Any:
        """`name`, `name:option=value,...` or `name(option=value,...)` -> configuration."""
        call = parse_call(text, self.kind)
        return self.build(call.name, call.options)


@dataclasses.dataclass(frozen=True)
class Call:
    """A parsed `name(option=value, ...)`."""

    name: str
    options: dict[str, Any]


_NAME = re.compile(r"[A-Za-z_][\w-]*")
_QUOTES = "\"'"


def parse_call(text: str, kind: str) -> Call:
    """Read `name`, `name:a=1,b=x` or `name(a=1,b=x)`; values are numbers, true/false/none, nested calls, words, or
    texts in quotes (`layer="3"`), which are what they look like."""
    text = text.strip()
    match = _NAME.match(text)
    if match is None:
        raise ArgumentError(f"{kind} must look like name or name:option=value,..., got {text!r}")
    rest = text[match.end() :]
    if rest.startswith(":"):
        inner = rest[1:]
    elif rest.startswith("(") and rest.endswith(")"):
        inner = rest[1:-1]
    elif not rest:
        inner = ""
    else:
        raise ArgumentError(f"{kind} must look like name or name:option=value,..., got {text!r}")
    options: dict[str, Any] = {}
    for part in _split(inner):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise ArgumentError(f"option of {kind} must look like option=value, got {part!r} in {text!r}")
        options[key.strip().replace("-", "_")] = _value(value.strip(), kind)
    return Call(match.group(), options)


def _split(text: str) -> Iterator[str]:
    """Split at commas that stand outside of brackets and quotes."""
    depth, start, quote = 0, 0, ""
    for position, character in enumerate(text):
        if quote or character in _QUOTES:
            quote = "" if character == quote else quote or character
            continue
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            yield text[start:position]
            start = position + 1
    if text[start:].strip():
        yield text[start:]


def _value(text: str, kind: str) -> Any:
    if len(text) > 1 and text[0] in _QUOTES and text[-1] == text[0]:
        return text[1:-1]
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    if text.startswith("[") and text.endswith("]"):
        return tuple(_value(part.strip(), kind) for part in _split(text[1:-1]))
    if text.endswith(")") and "(" in text:
        return parse_call(text, kind)
    return text


def check_int(name: str, value: Any, low: int, high: int | None = None) -> int:
    """`value` as an int within [low, high], or an `ArgumentError` that names it."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ArgumentTypeError(f"{name} must be a whole number, got {value!r}")
    value = value.__index__()
    if value < low or (high is not None and value > high):
        limits = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ArgumentError(f"{name} must be {limits}, got {value}")
    return int(value)


def check_float(name: str, value: Any, low: float, *, above: bool = False, high: float | None = None) -> float:
    """`value` as a finite float >= low (> low with `above`) and <= high, or an `ArgumentError` that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ArgumentTypeError(f"{name} must be a number, got {value!r}")
    too_low = value <= low if above else value < low
    if too_low or value != value or value in (float("inf"),) or (high is not None and value > high):
        limits = f"{'above' if above else 'at least'} {low:g}" + ("" if high is None else f" and at most {high:g}")
        raise ArgumentError(f"{name} must be a number {limits}, got {value}")
    return float(value)


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """`value` if it is one of `choices`, or an `ArgumentError` that lists them."""
    if value not in choices:
        raise ArgumentError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    return str(value)
