from __future__ import annotations

import shutil
from typing import Any

import h5py
import numpy as np
import pytest

from fastxai.errors import SchemaError
from fastxai.store import build_index, open_run, verify


def test_virtual_data_sets_show_the_run(make: Any, ids: list[str]) -> None:
    folder = make.run(ids, [ids[1]])
    build_index(folder)
    moved = make.root / "elsewhere"
    shutil.move(folder, moved)  # the names are relative to the run
    found = open_run(moved).read()
    with h5py.File(moved / "index.h5") as file:
        assert file["entry/lime/maps"].is_virtual
        np.testing.assert_array_equal(file["entry/lime/maps"][:], found["lime"].maps.numpy())
        np.testing.assert_array_equal(file["entry/segments/labels"][:], found["lime"].segments.numpy())
        weights = file["entry/lime/weights"][:]  # padded to the longest shard, never with zeros
        width = found["lime"].weights.shape[-1]
        np.testing.assert_array_equal(weights[..., :width], found["lime"].weights.numpy())
        assert np.isnan(weights[..., width:]).all()
        assert file["entry/image/id"].asstr()[:].tolist() == list(ids)


def test_superseded_rows_are_left_out(make: Any, ids: list[str]) -> None:
    folder = make.run(ids)
    with make.writer(folder, make.config()) as writer:
        writer.append(make.batch([ids[2], ids[5]], digest="1" * 32))
    plain = open_run(folder)
    build_index(folder)
    indexed = open_run(folder)
    assert indexed.info()["indexed"]
    assert indexed.ids == plain.ids
    assert indexed.done() == plain.done()
    assert indexed.generation == plain.generation == 2
    with h5py.File(folder / "index.h5") as file:
        np.testing.assert_array_equal(file["entry/gradcam/maps"][:], plain.read()["gradcam"].maps.numpy())


def test_an_index_that_does_not_fit_is_not_used(make: Any, ids: list[str]) -> None:
    folder = make.run(ids[:4])
    build_index(folder)
    with make.writer(folder, make.config()) as writer:
        writer.append(make.batch(ids[4:6]))
    run = open_run(folder)
    assert not run.info()["indexed"]
    assert run.ids == tuple(ids[:6])
    assert verify(folder) == []
    build_index(folder)
    assert open_run(folder).info()["indexed"]
    (folder / "shards" / "part-0-00001.h5").unlink()
    assert open_run(folder).ids == tuple(ids[:4])
    assert [str(problem) for problem in verify(folder)] == ["index.h5: names shards/part-0-00001.h5, which is missing"]


def test_an_index_never_leads_outside(make: Any, ids: list[str]) -> None:
    folder = make.run(ids[:4])
    build_index(folder)
    outside = make.root / "outside.h5"
    with h5py.File(outside, "w") as file:
        file["id"] = np.array([b"x"] * 4)
        file["maps"] = np.zeros((4, 2, 20, 24), np.float32)
    with h5py.File(folder / "index.h5", "r+") as file:
        del file["entry/gradcam/maps"]
        layout = h5py.VirtualLayout((4, 2, 20, 24), "<f4")
        layout[:] = h5py.VirtualSource(str(outside), "/maps", (4, 2, 20, 24))
        file.create_virtual_dataset("entry/gradcam/maps", layout)
    assert open_run(folder)["gradcam"][0].maps.sum() > 0  # from the shard
    assert any("no shard of this run" in str(problem) for problem in verify(folder))
    with h5py.File(folder / "index.h5", "r+") as file:
        del file["entry/image/id"]
        file["entry/image/id"] = h5py.ExternalLink(str(outside), "/id")
    run = open_run(folder)
    with pytest.raises(SchemaError, match="external link"):
        run.ids  # noqa: B018


def test_a_large_table_opens_at_once(make: Any) -> None:
    """One image of an indexed run touches a part of the index and one shard, not every row."""
    folder = make.run([f"{n:05d}" for n in range(30)], shard_images=3)
    build_index(folder)
    run = open_run(folder)
    assert run["gradcam"][17].maps.shape == (2, 20, 24)
    assert len(run._handles._open) <= 2  # the image's shard, and the one that says what there is
    assert "ids" not in vars(run)
