"""Runs on disk: the description of a run, the shard writer, the run reader, index, export and verifier.

Room for everything that touches HDF5; nothing above it knows how a run lies on the disk. Names are loaded when they are
asked for: a process that only checks files needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastxai.store.export import export_run
    from fastxai.store.index import build_index, missing_shards
    from fastxai.store.manifest import Manifest, check_out, create_run, is_run, read_manifest
    from fastxai.store.method_reader import MethodReader
    from fastxai.store.names import SCHEMA
    from fastxai.store.reader import Run, open_run
    from fastxai.store.schema import RunConfig, check_same, describe, difference
    from fastxai.store.verifier import Problem, verify
    from fastxai.store.writer import ShardWriter

__all__ = [
    "SCHEMA",
    "Manifest",
    "MethodReader",
    "Problem",
    "Run",
    "RunConfig",
    "ShardWriter",
    "build_index",
    "check_out",
    "check_same",
    "create_run",
    "describe",
    "difference",
    "export_run",
    "is_run",
    "missing_shards",
    "open_run",
    "read_manifest",
    "verify",
]

_PLACES = {
    "export": ("export_run",),
    "index": ("build_index", "missing_shards"),
    "manifest": ("Manifest", "check_out", "create_run", "is_run", "read_manifest"),
    "method_reader": ("MethodReader",),
    "names": ("SCHEMA",),
    "reader": ("Run", "open_run"),
    "schema": ("RunConfig", "check_same", "describe", "difference"),
    "verifier": ("Problem", "verify"),
    "writer": ("ShardWriter",),
}
_PLACE_OF = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _PLACE_OF:
        raise AttributeError(f"module 'fastxai.store' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fastxai.store.{_PLACE_OF[name]}"), name)
    globals()[name] = value
    return value
