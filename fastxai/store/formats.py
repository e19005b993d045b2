"""What a run can be exported as, and where such an export may lie."""

from __future__ import annotations

import os
from pathlib import Path

from fastxai.errors import ArgumentError
from fastxai.store.files import PART

FORMATS = {"h5": (".h5", ".hdf5", ".nxs"), "zarr": (".zarr",), "parquet": (".parquet",)}


def find_format(out: Path, asked: str | None = None) -> str:
    """The format asked for, or the one that the ending of `out` says; `ArgumentError` where neither says it."""
    if asked is not None:
        if asked not in FORMATS:
            raise ArgumentError(f"format must be one of {', '.join(FORMATS)}, got {asked!r}")
        return asked
    for name, endings in FORMATS.items():
        if out.suffix.lower() in endings:
            return name
    endings = tuple(ending for each in FORMATS.values() for ending in each)
    raise ArgumentError(f"out must end in {', '.join(endings)}, or come with a format, got {str(out)!r}")


def check_new(out: Path, run: Path) -> None:
    """Refuse an `out` that is there, that has no folder to lie in, or that would lie in the run itself."""
    if out.exists() or out.is_symlink():
        raise ArgumentError(f"out must be a new file, got {str(out)!r}, which is there")
    if not out.parent.is_dir():
        raise ArgumentError(f"out must lie in a folder that is there, got {str(out)!r}")
    if out.resolve().is_relative_to(run.resolve()):
        raise ArgumentError(f"out must lie outside of the run, got {str(out)!r}")


def part_of(out: Path) -> Path:
    """What `out` is called while it is not complete."""
    return out.with_name(f"{out.name}.{os.getpid()}{PART}")
