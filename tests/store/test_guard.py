from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fastxai.errors import CannotRun, SchemaError
from fastxai.store import open_run, verify

MAPS = "entry/gradcam/maps"


def external_link(file: h5py.File, outside: Path) -> None:
    del file[MAPS]
    file[MAPS] = h5py.ExternalLink(str(outside), "/secret")


def external_group(file: h5py.File, outside: Path) -> None:
    del file["entry/gradcam"]
    file["entry/gradcam"] = h5py.ExternalLink(str(outside), "/group")


def soft_link(file: h5py.File, outside: Path) -> None:
    del file[MAPS]
    file["out"] = h5py.ExternalLink(str(outside), "/")
    file[MAPS] = h5py.SoftLink("/out/secret")


def virtual(file: h5py.File, outside: Path) -> None:
    shape = file[MAPS].shape
    del file[MAPS]
    layout = h5py.VirtualLayout(shape, "<f4")
    layout[:] = h5py.VirtualSource(str(outside), "/secret", shape)
    file.create_virtual_dataset(MAPS, layout)


def external_storage(file: h5py.File, outside: Path) -> None:
    shape = file[MAPS].shape
    del file[MAPS]
    file.create_dataset(MAPS, shape, "<f4", external=[(str(outside), 0, h5py.h5f.UNLIMITED)])


def bomb(file: h5py.File, outside: Path) -> None:
    """A shape of terabytes in a file of kilobytes."""
    del file[MAPS]
    file.create_dataset(
        MAPS, (4, 2, 1 << 20, 1 << 20), "<f4", chunks=(1, 1, 16, 16), fletcher32=True, compression="gzip"
    )


def lost_chunk(file: h5py.File, outside: Path) -> None:
    """A chunk that was never written reads as zeros."""
    values = file[MAPS][:]
    del file[MAPS]
    chunks = (1, *values.shape[1:])
    dataset = file.create_dataset(MAPS, values.shape, "<f4", chunks=chunks, fletcher32=True, compression="gzip")
    dataset[1:] = values[1:]


def wrong_type(file: h5py.File, outside: Path) -> None:
    values = file[MAPS][:]
    del file[MAPS]
    file.create_dataset(MAPS, data=values.astype("f8"), chunks=(1, *values.shape[1:]), fletcher32=True)


def unchecked(file: h5py.File, outside: Path) -> None:
    values = file[MAPS][:]
    del file[MAPS]
    file.create_dataset(MAPS, data=values)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (external_link, "external link"),
        (external_group, "external link"),
        (soft_link, "soft link"),
        (virtual, "virtual data set"),
        (external_storage, "external storage"),
        (bomb, "has 0 of"),
        (lost_chunk, "has 3 of 4 chunks"),
        (wrong_type, "is float64, not float32"),
        (unchecked, "not of this schema"),
    ],
)
def test_what_leads_outside_is_refused(
    make: Any, ids: list[str], damage: Callable[[h5py.File, Path], None], words: str
) -> None:
    folder = make.run(ids[:4])
    outside = make.root / "outside.h5"
    with h5py.File(outside, "w") as file:
        file["secret"] = np.ones((4, 2, 20, 24), np.float32)
        file["group/maps"] = np.ones((4, 2, 20, 24), np.float32)
    with h5py.File(folder / "shards" / "part-0-00000.h5", "r+") as file:
        damage(file, outside)
    run = open_run(folder)
    with pytest.raises(SchemaError, match=words):
        run["gradcam"][0]
    assert run["lime"][0].maps.shape == (2, 20, 24)
    assert any(words in str(problem) for problem in verify(folder))


def test_shards_that_lie_elsewhere_are_refused(make: Any, ids: list[str]) -> None:
    folder = make.run(ids[:4])
    shard = folder / "shards" / "part-0-00000.h5"
    os.rename(shard, make.root / "elsewhere.h5")
    shard.symlink_to(make.root / "elsewhere.h5")
    with pytest.raises(SchemaError, match="must lie in the run"):
        open_run(folder)
    assert len(verify(folder)) == 1


def test_a_run_behind_a_link_is_fine(make: Any, ids: list[str]) -> None:
    folder = make.run(ids[:4])
    link = make.root / "link"
    link.symlink_to(folder)
    assert len(open_run(link)) == 4


def test_another_runs_shard_is_refused(make: Any, ids: list[str]) -> None:
    folder = make.run(ids[:4])
    other = make.run(ids[4:8], name="other", seed=1)
    (folder / "shards" / "part-1-00000.h5").write_bytes((other / "shards" / "part-0-00000.h5").read_bytes())
    with pytest.raises(SchemaError, match="belongs to a run with another configuration"):
        open_run(folder)


def test_a_newer_shard_is_refused(make: Any, ids: list[str]) -> None:
    folder = make.run(ids[:4])
    with h5py.File(folder / "shards" / "part-0-00000.h5", "r+") as file:
        file["entry"].attrs["schema"] = 2
    with pytest.raises(SchemaError, match="schema 2, this version reads up to 1"):
        open_run(folder)


@pytest.mark.parametrize("contents", [b"", b"rubbish" * 1000])
def test_rubbish_is_refused_in_one_line(make: Any, ids: list[str], contents: bytes) -> None:
    folder = make.run(ids[:4])
    (folder / "shards" / "part-7-00000.h5").write_bytes(contents)
    with pytest.raises(CannotRun) as caught:
        open_run(folder)
    assert "part-7-00000.h5" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cut_off_shard_is_refused(make: Any, ids: list[str]) -> None:
    folder = make.run(ids[:4])
    shard = folder / "shards" / "part-0-00000.h5"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(CannotRun, match="cannot be opened"):
        open_run(folder)


def test_another_hdf5_file_is_refused(make: Any, ids: list[str]) -> None:
    folder = make.run(ids[:4])
    with h5py.File(folder / "shards" / "part-1-00000.h5", "w") as file:
        file["entry/image/id"] = [1, 2]
    with pytest.raises(SchemaError, match="not a shard of a run"):
        open_run(folder)
