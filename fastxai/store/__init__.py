"""Runs on disk: the description of a run, the shard writer, the run reader, the index and the verifier.

Room for everything that touches HDF5; nothing above it knows how a run lies on the disk.
"""

from fastxai.store.index import build_index
from fastxai.store.manifest import Manifest, check_out, create_run, is_run, read_manifest
from fastxai.store.method_reader import MethodReader
from fastxai.store.reader import Run, open_run
from fastxai.store.schema import SCHEMA, RunConfig, check_same, describe, difference
from fastxai.store.verify import Problem, verify
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
    "is_run",
    "open_run",
    "read_manifest",
    "verify",
]
