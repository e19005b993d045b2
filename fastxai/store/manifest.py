"""run.json: what a run is, written once before its first shard."""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import filelock
import h5py
import numpy as np
import torch

from fastxai._version import __version__
from fastxai.errors import ArgumentError, CannotRun, SchemaError
from fastxai.packages import versions_of
from fastxai.plugins import loaded_plugins
from fastxai.store import files
from fastxai.store.files import PART, commit_file, reason
from fastxai.store.names import RUN_JSON, SCHEMA, SHARDS, check_schema
from fastxai.store.schema import RunConfig, check_same, settings_from_dict, settings_to_dict
from fastxai.types import Settings

_LOCK = "run.lock"
_COMPUTE = ("torchvision", "captum", "numba", "scikit-image", "scipy")
_ZOOS = {"timm": "timm", "transformers": "transformers"}
_NO_DIGEST = "0" * 32
_DIGEST = re.compile(r'(?<=^ )"digest": "[0-9a-f]{32}"', re.MULTILINE)


@dataclass(frozen=True)
class Manifest:
    """The contents of run.json. `source` says in words where the images came from."""

    config: RunConfig
    settings: Settings
    source: str = ""
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text of run.json, for people too: indented, the schema first, a digest of the text itself last."""
        data = {
            "schema": SCHEMA,
            "program": "fastxai",
            "created": self.created,
            "source": self.source,
            "fingerprint": self.config.model["fingerprint"],
            "seed": self.config.seed,
            "configuration": self.config.to_dict(),
            "settings": settings_to_dict(self.settings),
            "versions": dict(self.versions),
            "digest": _NO_DIGEST,
        }
        text = json.dumps(data, indent=1, allow_nan=False) + "\n"
        return _DIGEST.sub(f'"digest": "{text_digest(text)}"', text)

    @staticmethod
    def from_json(text: str, where: object) -> Manifest:
        """Read the text of run.json; `SchemaError` names `where` for a newer schema or a damaged text."""
        try:
            data = json.loads(text)
            schema = data["schema"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SchemaError(f"{where} does not describe a run: it is damaged, or of another program") from error
        check_schema(schema, where)
        try:
            return Manifest(
                config=RunConfig.from_dict(data["configuration"]),
                settings=settings_from_dict(data["settings"]),
                source=str(data["source"]),
                created=str(data["created"]),
                versions=dict(data["versions"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SchemaError(f"{where} is damaged: {type(error).__name__} {error}") from error


def text_digest(text: str) -> str:
    """BLAKE2b-128 of the text of run.json, taken with zeros in the place of the digest."""
    return hashlib.blake2b(_DIGEST.sub(f'"digest": "{_NO_DIGEST}"', text).encode(), digest_size=16).hexdigest()


def changed_manifest(folder: Path) -> str | None:
    """Why run.json is not what was written; None where every byte is."""
    text = (folder / RUN_JSON).read_text(encoding="utf-8")
    if json.loads(text).get("digest") == text_digest(text):
        return None
    return "its contents are not those that were written: it was edited, or is damaged"


def versions() -> dict[str, str]:
    """Versions of what computes and stores; of model zoos and plugins, of those that this process has loaded."""
    found = {
        "fastxai": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "h5py": h5py.__version__,
        "hdf5": h5py.version.hdf5_version,
        "python": platform.python_version(),
    }
    wanted = [*_COMPUTE, *(package for module, package in _ZOOS.items() if module in sys.modules)]
    return found | versions_of(wanted) | {plugin.package: plugin.version for plugin in loaded_plugins()}


def now() -> str:
    """The date in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def is_run(folder: str | Path) -> bool:
    """Whether a run was begun in `folder`."""
    return (Path(folder) / RUN_JSON).is_file()


def check_out(folder: str | Path) -> None:
    """Raise `ArgumentError` unless `folder` is new, empty or a run. Writes nothing."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ArgumentError(f"out must be a folder, got the file {str(folder)!r}")
    if folder.is_dir():
        ours = {RUN_JSON + PART, _LOCK, SHARDS}
        other = sorted(entry.name for entry in folder.iterdir() if entry.name not in ours)
        # Looked for after the listing: another worker may begin this very run in between.
        if other and not is_run(folder):
            held = f"{str(folder)!r}, which holds {other[0]!r} and no {RUN_JSON}"
            raise ArgumentError(f"out must be a new or empty folder, or a run, got {held}")


def create_run(folder: str | Path, config: RunConfig, settings: Settings, source: str = "") -> Manifest:
    """Begin a run in `folder`, or join the run that is there; returns what holds from now on.

    A run that is there keeps its settings, which the caller must follow. Raises `RunMismatch` (the difference named)
    for a run with another configuration, `ArgumentError` for a folder with other things in it, `CannotRun` where the
    folder cannot be written.
    """
    folder = Path(folder)
    check_out(folder)
    try:
        files.disk.make_folder(folder / SHARDS)
        # Two workers may begin one run at the same time: the second one joins.
        lock = files.disk.lock(folder / _LOCK, seconds=60)
    except filelock.Timeout as error:
        raise CannotRun(f"{folder} is locked by another program: it holds {_LOCK}") from error
    except OSError as error:
        raise CannotRun(f"{folder} cannot be written: {reason(error)}") from error
    try:
        if is_run(folder):
            manifest = read_manifest(folder)
            check_same(folder, manifest.config, config)
            return manifest
        manifest = Manifest(config, settings, source, now(), versions())
        commit_file(folder / RUN_JSON, manifest.to_json().encode())
        return manifest
    finally:
        lock.release()


def read_manifest(folder: str | Path) -> Manifest:
    """What run.json says; `ArgumentError` for a folder that is not a run."""
    folder = Path(folder)
    if not is_run(folder):
        raise ArgumentError(f"RUN must be a folder with a {RUN_JSON}, got {str(folder)!r}")
    path = folder / RUN_JSON
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CannotRun(f"{path} cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise SchemaError(f"{path} does not describe a run: it is damaged, or of another program") from error
    return Manifest.from_json(text, path)
