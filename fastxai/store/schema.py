"""What a run is: the frozen description that all of its shards share."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastxai.config import check_choice, check_int
from fastxai.errors import ArgumentError, RunMismatch, SchemaError
from fastxai.explainers import EXPLAINERS, Explainer
from fastxai.types import Preprocess, Settings

STORES = ("full", "compact")

# Groups under `entry/` that no method may take; further label maps are `segments-<8 hex digits>`.
RESERVED = ("image", "prediction", "segments", "process", "title", "axes", "shards", "shard", "row")


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what the rows of a run hold. Two runs with equal ones hold the same rows.

    explainers: their `Config.to_dict`; targets: the rule as plain data; model: a description with its `fingerprint`;
    pixels: whether the pictures are kept; store: "full", or "compact" without what the reader can rebuild.
    """

    explainers: tuple[Mapping[str, Any], ...]
    targets: Any
    targets_per_image: int
    seed: int
    model: Mapping[str, Any]
    preprocess: Preprocess
    pixels: bool = True
    store: str = "full"
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_int("targets_per_image", self.targets_per_image, 1)
        check_choice("store", self.store, STORES)
        if "fingerprint" not in self.model:
            raise ArgumentError(f"model must be described with its fingerprint, got {dict(self.model)}")
        names = self.methods
        for name in names:
            if name in RESERVED or re.fullmatch(r"segments-[0-9a-f]{8}", name):
                taken = ", ".join(RESERVED)
                raise ArgumentError(f"name must not be one that a run uses itself ({taken}), got {name!r}")
            if names.count(name) > 1:
                raise ArgumentError(f"explainers must have different names, got {name!r} twice: set name=")

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the explainers, in order."""
        return tuple(str(explainer["name"]) for explainer in self.explainers)

    def build_explainers(self) -> tuple[Explainer, ...]:
        """The explainers again; `SchemaError` for a method that this installation does not have."""
        built = []
        for data in self.explainers:
            try:
                built.append(EXPLAINERS.from_dict(data))
            except ArgumentError as error:
                raise SchemaError(f"method {data.get('name')!r} of the run cannot be read here: {error}") from error
            except (KeyError, TypeError, AttributeError) as error:
                raise SchemaError(f"{dict(data)} in the run is no method: it is damaged") from error
        return tuple(built)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        data["preprocess"] = dataclasses.asdict(self.preprocess)
        plain: dict[str, Any] = json.loads(_dump(data))
        return plain

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> RunConfig:
        """The configuration that `to_dict` described; `KeyError` or `TypeError` where something is missing."""
        given = dict(data)
        given["preprocess"] = _preprocess(given["preprocess"])
        given["explainers"] = tuple({**explainer, "name": str(explainer["name"])} for explainer in given["explainers"])
        given["class_names"] = None if given["class_names"] is None else tuple(given["class_names"])
        return RunConfig(**given)

    @property
    def digest(self) -> str:
        """BLAKE2b-128 of the configuration: by it a shard knows its run."""
        return hashlib.blake2b(json.dumps(self.to_dict(), sort_keys=True).encode(), digest_size=16).hexdigest()


def describe(explainers: Sequence[Explainer], **values: Any) -> RunConfig:
    """A `RunConfig` for explainers in hand; `values` are its other fields."""
    return RunConfig(explainers=tuple(explainer.to_dict() for explainer in explainers), **values)


def check_same(folder: object, there: RunConfig, here: RunConfig) -> None:
    """Raise `RunMismatch` that names the first difference between the run in `folder` and what is asked for."""
    found = difference(there, here)
    if found is not None:
        raise RunMismatch(
            f"out must be a new folder or a run with the same configuration, got {str(folder)!r}, a run with another "
            f"one: {found}; use another folder, or the arguments of that run"
        )


def difference(there: RunConfig, here: RunConfig) -> str | None:
    """The first difference as "seed is 0 there, 1 here", or None."""
    if there.methods != here.methods:
        return f"methods are {', '.join(there.methods)} there, {', '.join(here.methods)} here"
    left, right = there.to_dict(), here.to_dict()
    parts = list(zip(there.methods, left.pop("explainers"), right.pop("explainers"), strict=True))
    for prefix, a, b in [*parts, ("", left, right)]:
        for name, value, other in _differences(prefix, a, b):
            return f"{name} is {_short(value)} there, {_short(other)} here"
    return None


def _differences(name: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            inner = f"{name}.{key}" if name else key
            if key not in a or key not in b:
                yield inner, a.get(key), b.get(key)
            else:
                yield from _differences(inner, a[key], b[key])
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for position, (left, right) in enumerate(zip(a, b, strict=True)):
            yield from _differences(f"{name}[{position}]", left, right)
    elif a != b:
        yield name, a, b


def _short(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def settings_to_dict(settings: Settings) -> dict[str, Any]:
    """Calibrated settings as plain JSON data."""
    plain: dict[str, Any] = json.loads(_dump(dataclasses.asdict(settings)))
    return plain


def settings_from_dict(data: Mapping[str, Any]) -> Settings:
    """The settings that `settings_to_dict` described; what an older version did not settle is as by default today.

    Raises `ArgumentError` for what this version does not know.
    """
    known = tuple(field.name for field in dataclasses.fields(Settings))
    for name in data:
        check_choice("settings", name, known)
    rows = {**Settings().rows, **data.get("rows", {})}
    for kind, count in rows.items():
        check_int(f"rows of {kind}", count, 1)
    compiled = data.get("compile", [])
    if not isinstance(compiled, list):  # as it was when only scores could be compiled
        compiled = ["scores"] if compiled else []
    return Settings(**{**data, "rows": rows, "compile": tuple(compiled)})


def _preprocess(data: Mapping[str, Any]) -> Preprocess:
    listed: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    return Preprocess(**listed)


def _dump(data: Any) -> str:
    return json.dumps(data, allow_nan=False)
