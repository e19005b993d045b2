from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastxai.errors import ArgumentError, CannotRun, MissingExtra
from fastxai.store import export_run, export_zarr, open_run

zarr = pytest.importorskip("zarr")


@pytest.mark.parametrize("changes", [{}, {"store": "compact"}, {"pixels": False}])
def test_a_store_holds_the_run(make: Any, ids: list[str], changes: dict[str, Any]) -> None:
    folder = make.run(ids, [ids[3]], shard_images=3, **changes)
    seen: list[tuple[int, int]] = []
    out = export_run(folder, make.root / "run.zarr", progress=lambda *done: seen.append(done))
    assert seen[-1] == (10, 10)
    found = open_run(folder).read()
    root = zarr.open_group(out, mode="r")
    assert root["image/id"][:].tolist() == ids
    assert root["image/error"][3] == "cannot be decoded: é"
    np.testing.assert_array_equal(root["prediction/classes"][:], found.predictions.numpy())
    np.testing.assert_array_equal(root["prediction/probabilities"][:], found.probabilities.numpy())
    np.testing.assert_array_equal(root["segments/labels"][:], found["lime"].segments.numpy())
    for method in found:
        for name, values in found[method].data.items():  # of a compact run, the maps too
            array = root[method][name]
            width = values.shape[-1]
            np.testing.assert_array_equal(array[..., :width] if array.ndim > 1 else array[:], values.numpy())
    assert ("pixels" in root["image"]) == changes.get("pixels", True)
    if changes.get("pixels", True):
        np.testing.assert_array_equal(root["image/pixels"][:].transpose(0, 3, 1, 2), found.images.numpy())
    about = root.attrs["run"]
    assert about == json.loads(open_run(folder).manifest.to_json())
    assert root["gradcam"].attrs["configuration"]["method"] == "gradcam"
    assert root["lime"].attrs["segments"] == "segments"
    assert root["gradcam/maps"].attrs["long_name"]


def test_xarray_reads_named_dimensions(make: Any, ids: list[str]) -> None:
    xarray = pytest.importorskip("xarray")
    out = export_run(make.run(ids[:5]), make.root / "run.zarr")
    found = open_run(make.root / "run").read()
    with xarray.open_zarr(out, group="lime", consolidated=False) as lime:
        assert lime.maps.dims == ("image", "target", "y", "x")
        assert lime.weights.dims == ("image", "target", "segment")
        np.testing.assert_array_equal(lime.maps.values, found["lime"].maps.numpy())
    with xarray.open_zarr(out, group="image", consolidated=False) as image:
        assert image.pixels.dims == ("image", "y", "x", "channel")
        assert image.id.values.tolist() == ids[:5]


def test_parts_of_a_run(make: Any, ids: list[str]) -> None:
    folder = make.run(ids, shard_images=3)
    out = export_run(folder, make.root / "part", format="zarr", ids=[ids[7], ids[1]], methods=["lime-coarse"])
    root = zarr.open_group(out, mode="r")
    assert root["image/id"][:].tolist() == [ids[1], ids[7]]
    assert set(root.group_keys()) == {"image", "prediction", "segments", "lime-coarse"}
    want = open_run(folder).found([ids[1], ids[7]])["lime-coarse"]
    np.testing.assert_array_equal(root["segments/labels"][:], want.segments.numpy())  # which the run calls otherwise


def test_images_share_files_and_are_read_alone(make: Any, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of images in memory, several of them; each image a chunk."""
    monkeypatch.setattr(export_zarr, "_BLOCK", 4)
    monkeypatch.setattr(export_zarr, "_ROWS", 3)
    monkeypatch.setattr(export_zarr, "_FILE_BYTES", 20 * 24 * 4 * 2 * 2)  # two images of maps
    folder = make.run(ids, shard_images=3)
    most = 0
    read = export_zarr.Selection.read

    def watch(self: Any, path: str, start: int, stop: int) -> Any:
        nonlocal most
        most = max(most, stop - start)
        return read(self, path, start, stop)

    monkeypatch.setattr(export_zarr.Selection, "read", watch)
    out = export_run(folder, make.root / "run.zarr")
    assert most == 4
    maps = zarr.open_group(out, mode="r")["gradcam/maps"]
    assert maps.chunks == (1, 2, 20, 24)
    assert maps.shards == (2, 2, 20, 24)
    assert len([path for path in (out / "gradcam" / "maps").rglob("*") if path.is_file()]) == 5 + 1  # and zarr.json
    np.testing.assert_array_equal(maps[:], open_run(folder).read()["gradcam"].maps.numpy())


def test_nothing_is_left_of_an_export_that_fails(make: Any, ids: list[str]) -> None:
    folder = make.run(ids[:4])
    make.damage_map(folder)
    with pytest.raises(CannotRun, match="is damaged"):
        export_run(folder, make.root / "run.zarr")
    assert not list(make.root.glob("run.zarr*"))


def test_without_zarr_the_extra_is_named(make: Any, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingExtra, match=r"pip install 'fastxai\[zarr\]'"):
        export_run(make.run(ids[:2]), make.root / "run.zarr")
    assert not list(make.root.glob("run.zarr*"))


def test_the_ending_says_the_format(make: Any, ids: list[str]) -> None:
    folder = make.run(ids[:2])
    with pytest.raises(
        ArgumentError, match=r"out must end in .h5, .hdf5, .nxs, .zarr, .parquet, or come with a format"
    ):
        export_run(folder, make.root / "run.doc")
    with pytest.raises(ArgumentError, match="format must be one of h5, zarr, parquet, got 'tiff'"):
        export_run(folder, make.root / "run.h5", format="tiff")
    assert len(open_run(export_run(folder, Path(make.root / "run.data"), format="h5"))) == 2
