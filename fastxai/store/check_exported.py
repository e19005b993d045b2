"""Looking at every byte of a run in one file; apart from the rest because it needs to know the methods."""

from __future__ import annotations

from pathlib import Path

from fastxai.errors import ArgumentError, CannotRun
from fastxai.store.check import Checked, Expected, check_shard
from fastxai.store.exported import read_exported
from fastxai.store.layout import Layout
from fastxai.types import Status


def expect(layout: Layout) -> Expected:
    """What the shards of a run must hold, as plain data."""
    statuses = tuple(int(status) for status in Status)
    return Expected(layout.config.digest, tuple(layout.data_sets.values()), dict(layout.lengths), statuses)


def check_exported(path: Path) -> Checked:
    """Check a file that holds a whole run: as a shard, by what it says about itself."""
    try:
        manifest, _, _ = read_exported(path)
        expected = expect(Layout(manifest.config, manifest.config.build_explainers()))
    except (CannotRun, ArgumentError, OSError) as error:
        return Checked([str(error)])
    except Exception as error:  # a damaged file makes HDF5 and h5py raise anything
        return Checked([f"is damaged: {type(error).__name__} {error}"])
    return check_shard(path, None, expected)
