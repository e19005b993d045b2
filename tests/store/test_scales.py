"""Runs as other programs see them: dimensions by name in xarray, in every file, and old files without names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from fastxai.explainers import GradCam, Lime
from fastxai.segments import Grid
from fastxai.store import build_index, export_run, open_run, verify
from fastxai.store.layout import Layout

SHARD = "shards/part-0-00000.h5"


def every_file(folder: Path) -> dict[str, Path]:
    return {
        "shard": folder / SHARD,
        "index": build_index(folder),
        "exported": export_run(folder, folder.parent / "one.h5"),
    }


@pytest.mark.parametrize("changes", [{}, {"store": "compact"}, {"pixels": False}])
def test_every_dimension_has_its_scale(make: Any, ids: list[str], changes: dict[str, Any]) -> None:
    folder = make.run(ids, [ids[3]], shard_images=4, **changes)
    run = open_run(folder)
    layout = Layout(run.config, run.explainers)
    for kind, path in every_file(folder).items():
        with h5py.File(path) as file:
            for name, spec in layout.data_sets.items():
                dataset = file["entry"][name]
                wanted = ["image", *spec.dims]
                assert [len(dim) for dim in dataset.dims] == [1] * len(wanted), (kind, name)
                assert [dim[0].name.split("/")[-1] for dim in dataset.dims] == wanted, (kind, name)
                for dim, length in zip(dataset.dims, dataset.shape, strict=True):
                    np.testing.assert_array_equal(dim[0][:], np.arange(length))
    assert verify(folder) == verify(folder.parent / "one.h5") == []


@pytest.mark.parametrize("kind", ["shard", "index", "exported"])
def test_xarray_reads_named_dimensions(make: Any, ids: list[str], kind: str) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    folder = make.run(ids, [ids[1]], shard_images=10)
    path = every_file(folder)[kind]
    found = open_run(folder).read()
    with xarray.open_dataset(path, engine="h5netcdf", group="entry/lime") as lime:
        assert lime.maps.dims == ("image", "target", "y", "x")
        assert lime.weights.dims == ("image", "target", "segment")
        assert dict(lime.sizes) == {"image": 10, "target": 2, "y": 20, "x": 24, "segment": lime.weights.shape[-1]}
        np.testing.assert_array_equal(lime.maps.values, found["lime"].maps.numpy())
        np.testing.assert_array_equal(lime.maps.sel(image=4, target=1).values, found["lime"].maps[4, 1].numpy())
        assert lime.maps.attrs["long_name"]
    with xarray.open_dataset(path, engine="h5netcdf", group="entry/image") as image:
        assert image.pixels.dims == ("image", "y", "x", "channel")
        assert image["size"].dims == ("image", "extent")
        assert [text.decode() for text in image.id.values.tolist()] == ids
    with xarray.open_dataset(path, engine="h5netcdf", group="entry/prediction") as prediction:
        assert prediction.classes.dims == ("image", "rank")
        assert prediction.targets.dims == ("image", "target")
    with xarray.open_datatree(path, engine="h5netcdf") as tree:  # every group, so that each dimension has a name
        assert tree["entry/gradcam/native"].dims == ("image", "target", "cam_y", "cam_x")
        np.testing.assert_array_equal(tree["entry/segments/labels"].values, found["lime"].segments.numpy())


def test_one_name_for_two_lengths_is_told_apart(make: Any) -> None:
    make.explainers = (GradCam(layer=("a", "b")), Lime(samples=10, segments=Grid()))
    folder, config = make.begin()
    batch = make.batch(["x", "y", "z"])
    fields = dict(batch.methods["gradcam"])
    fields["native_2"] = torch.zeros(3, 2, 5, 4)
    batch.methods["gradcam"] = fields
    with make.writer(folder, config) as writer:
        writer.append(batch)
    with h5py.File(folder / SHARD) as file:
        names = [[dim[0].name.split("/")[-1] for dim in file["entry/gradcam"][field].dims][2:] for field in fields]
    assert dict(zip(fields, names, strict=True)) == {
        "maps": ["y", "x"],
        "native": ["cam_y", "cam_x"],
        "native_2": ["cam_y_2", "cam_x"],
    }
    xarray = pytest.importorskip("xarray")
    with xarray.open_dataset(folder / SHARD, engine="h5netcdf", group="entry/gradcam") as gradcam:
        assert gradcam.native_2.shape == (3, 2, 5, 4)
    assert verify(folder) == []


def test_a_run_of_before_without_scales_is_read(
    make: Any, ids: list[str], monkeypatch: pytest.MonkeyPatch, same: Any
) -> None:
    def shared_axes(group: h5py.Group, dims: Any, put: Any) -> Any:
        """What schema 1 had at first: plain axes that all groups shared by hard links."""
        for name, wanted in dims.items():
            for dim, length in zip(wanted, group[name].shape, strict=True):
                where = group.file["entry"].require_group("axes")
                if f"{dim}_{length}" not in where:
                    put(where, f"{dim}_{length}", np.arange(length, dtype=np.int32))
                if dim not in group:
                    group[dim] = where[f"{dim}_{length}"]
        return dims

    with monkeypatch.context() as before:
        before.setattr("fastxai.store.tree.name_dimensions", shared_axes)
        before.setattr("fastxai.store.tree.name_plain", lambda *_: None)
        old = make.run(ids, [ids[3]], shard_images=4)
    with h5py.File(old / SHARD) as file:
        assert "axes" in file["entry"]
        assert not file["entry/lime/maps"].dims[0]
    plain = open_run(old).read()
    files = every_file(old)
    assert verify(old) == verify(files["exported"]) == []
    for run in (open_run(old), open_run(files["exported"])):
        for name in plain:
            for field, values in plain[name].data.items():
                same(run.read()[name].data[field], values)
    for path in (files["index"], files["exported"]):  # what is made of it today has scales
        with h5py.File(path) as file:
            assert file["entry/lime/maps"].dims[2][0].name.endswith("/y")
