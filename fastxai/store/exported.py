"""Reading a run that was exported to one file: a shard that also holds what run.json says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastxai.store.guard import ShardFile, attribute, inside, open_file, open_shard, read_slice
from fastxai.store.manifest import Manifest
from fastxai.store.names import ENTRY
from fastxai.store.table import Table

RUN = "process/run"  # under `entry/`: the text of run.json


def read_exported(path: Path) -> tuple[Manifest, ShardFile, Table]:
    """The description of the run in file `path`, the file as its only shard, and its rows: all of them, in order.

    Raises `SchemaError` for a file of a newer schema, and for one that is not an exported run.
    """
    with open_file(path) as file:
        text = read_slice(inside(file, f"{ENTRY}/{RUN}"), 0, 1)[0]
    manifest = Manifest.from_json(text.decode("utf-8", "replace"), path)
    with open_shard(path, manifest.config.digest) as file:
        entry = inside(file, ENTRY)
        images, generation = attribute(entry, "images"), attribute(entry, "generation")
        shard = ShardFile(path, str(attribute(entry, "worker")), int(attribute(entry, "number")), path.stat().st_size)
    return manifest, shard, Table(np.zeros(images, np.int32), np.arange(images, dtype=np.int32), int(generation))
