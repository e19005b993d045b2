"""Parts from elsewhere: entry points of other packages, loaded when they are asked for, and `package.module:name`.

A package adds a method or a source of models with two lines of its pyproject.toml:

    [project.entry-points."fastxai.explainers"]
    centre = "centre_maps:Centre"          # an `Explainer` whose `method` is "centre"

    [project.entry-points."fastxai.models"]
    zoo = "zoo.fastxai:load"               # load(name, options) -> Model, for `--model zoo:NAME`

One that is broken is reported in one line to whoever asks for it, and troubles nobody else.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import sys
from dataclasses import dataclass
from typing import Any

from fastxai.errors import ArgumentError, CannotRun

EXPLAINERS, MODELS = "fastxai.explainers", "fastxai.models"
GROUPS = {EXPLAINERS: "explainer", MODELS: "model source"}
_OBJECT = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class Plugin:
    """An entry point: what it is called in its group, the package that declares it, and where it says its object is."""

    group: str
    name: str
    package: str
    version: str
    value: str

    def __str__(self) -> str:
        return f"{GROUPS[self.group]} {self.name!r} of {self.package} {self.version}"

    @property
    def module(self) -> str:
        """Where its object is."""
        return self.value.partition(":")[0].strip()

    def load(self) -> Any:
        """The object; `CannotRun` in one line where it cannot be had."""
        try:
            return importlib.metadata.EntryPoint(self.name, self.value, self.group).load()
        except (Exception, SystemExit) as error:  # the package's code: it may raise anything
            raise CannotRun(f"{self} cannot be loaded: {in_one_line(error)}") from error


def find_plugins(group: str) -> list[Plugin]:
    """What the installed packages declare in `group`, by name; nothing is loaded. Garbled metadata declares nothing."""
    found: dict[tuple[str, str], Plugin] = {}
    for distribution in importlib.metadata.distributions():
        try:
            declared = [point for point in distribution.entry_points if point.group == group]
            if declared:
                package, version = distribution.metadata["Name"], distribution.version
                for point in declared:  # of a package that is installed twice, the first on the path is used
                    found.setdefault((package, point.name), Plugin(group, point.name, package, version, point.value))
        except Exception:  # another package's files: damaged ones must not break this one
            continue
    return sorted(found.values(), key=lambda plugin: (plugin.name, plugin.package))


def find_plugin(group: str, name: str) -> Plugin | None:
    """The one called `name`, None where there is none; `CannotRun` where several packages want the name."""
    found = [plugin for plugin in find_plugins(group) if plugin.name == name]
    if len(found) > 1:
        packages = ", ".join(plugin.package for plugin in found)
        raise CannotRun(f"{GROUPS[group]} {name!r} is declared by several packages ({packages}): uninstall all but one")
    return found[0] if found else None


def loaded_plugins() -> list[Plugin]:
    """Those of every group whose module this process has imported."""
    return [plugin for group in GROUPS for plugin in find_plugins(group) if plugin.module in sys.modules]


def is_object(text: str) -> bool:
    """Whether `text` looks like `package.module:name`."""
    return _OBJECT.fullmatch(text) is not None


def import_object(text: str, argument: str, forms: str, kind: str) -> Any:
    """The object that `package.module:name` names; the current folder is importable, as with `python -m`.

    Raises `ArgumentError` where there is no such thing ("`argument` must be `forms`", or "must name `kind` of MODULE"),
    `CannotRun` where importing it fails.
    """
    place, _, name = text.partition(":")
    found = _import(place, text, f"{argument} must be {forms}")
    for part in name.split("."):
        if not hasattr(found, part):
            raise ArgumentError(f"{argument} must name {kind} of {place}, got {text!r}")
        found = getattr(found, part)
    return found


def _import(place: str, text: str, rule: str) -> Any:
    added = os.getcwd()
    sys.path.insert(0, added)
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and (place == error.name or place.startswith(f"{error.name}.")):
            raise ArgumentError(f"{rule}, got {text!r}: there is no module {error.name}") from error
        raise CannotRun(f"{place} cannot be imported: {error}") from error
    except Exception as error:
        raise CannotRun(f"{place} cannot be imported: {in_one_line(error)}") from error
    finally:
        sys.path.remove(added)


def in_one_line(error: BaseException) -> str:
    """An exception of somebody else's code, short."""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
