from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import pytest

from fastxai.store import build_index


def text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else [text(item) for item in value]


@pytest.mark.parametrize("changes", [{}, {"store": "compact"}, {"pixels": False}])
def test_nexus_attributes_are_complete(make: Any, ids: list[str], changes: dict[str, Any]) -> None:
    folder = make.run(ids[:3], **changes)
    with h5py.File(folder / "shards" / "part-0-00000.h5") as file:
        assert text(file.attrs["NX_class"]) == "NXroot"
        assert text(file.attrs["default"]) == "entry"
        entry = file["entry"]
        assert text(entry.attrs["NX_class"]) == "NXentry"
        assert text(entry.attrs["default"]) == "lime"
        plotted = []
        for name, group in entry.items():
            if isinstance(group, h5py.Group) and text(group.attrs["NX_class"]) == "NXdata":
                plotted.append(name)
                signal = group[text(group.attrs["signal"])]
                axes = text(group.attrs["axes"])
                assert len(axes) == signal.ndim
                for axis, length in zip(axes, signal.shape, strict=True):
                    assert group[axis].shape == (length,)
        assert {"lime", "lime-coarse", "gradcam", "gradient-shap", "segments"} <= set(plotted)
        assert ("image" in plotted) == changes.get("pixels", True)
        if "store" not in changes:
            assert text(entry["lime"].attrs["signal"]) == "maps"
        assert text(entry["lime"].attrs["segments"]) == "segments"
        coarse = text(entry["lime-coarse"].attrs["segments"])
        assert coarse.startswith("segments-")
        assert json.loads(text(entry[coarse].attrs["segmenter"]))["rows"] == 2
        process = entry["process"]
        assert text(process.attrs["NX_class"]) == "NXprocess"
        assert json.loads(process["configuration"][0])["seed"] == 0
        assert "rows" not in process
        if "pixels" not in changes:
            pixels = entry["image/pixels"]
            assert pixels.shape == (3, 20, 24, 3)
            assert text(pixels.attrs["CLASS"]) == "IMAGE"
            assert text(pixels.attrs["interpretation"]) == "rgb-image"


def test_everything_is_checksummed_and_one_image_a_chunk(make: Any, ids: list[str]) -> None:
    folder = make.run(ids[:3])
    types = {}

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            assert item.fletcher32, name
            assert item.compression == "gzip", name
            if name.endswith(("maps", "weights", "native", "labels", "pixels")):
                assert item.chunks == (1, *item.shape[1:])
            types[name.removeprefix("entry/")] = item.dtype.name if item.dtype.kind != "S" else "text"
            if item.dtype.kind == "S":
                assert h5py.check_string_dtype(item.dtype) == ("utf-8", item.dtype.itemsize)

    with h5py.File(folder / "shards" / "part-0-00000.h5") as file:
        file.visititems(look)
        assert file.id.get_create_plist().get_version()[0] >= 2  # superblock and headers with checksums
    assert types["segments/labels"] == "uint16"
    assert types["lime/maps"] == "float32"
    assert types["image/label"] == types["prediction/targets"] == types["lime/samples"] == "int32"
    assert types["image/status"] == "uint8"


@pytest.mark.parametrize("changes", [{}, {"store": "compact"}])
def test_silx_plots_every_group(make: Any, ids: list[str], changes: dict[str, Any]) -> None:
    nxdata = pytest.importorskip("silx.io.nxdata")
    folder = make.run(ids[:5], **changes)
    for path in (folder / "shards" / "part-0-00000.h5", build_index(folder)):
        with h5py.File(path) as file:
            default = nxdata.get_default(file, validate=True)
            assert default is not None
            assert default.group.name == "/entry/lime"
            for name, group in file["entry"].items():
                if group.attrs.get("NX_class") == b"NXdata":
                    found = nxdata.NXdata(group)
                    assert found.is_valid, (path.name, name, found.issues)
                    if name == "image":
                        assert found.interpretation == "rgb-image"


def test_a_one_channel_picture_is_shown_grey(make: Any, tmp_path: Path) -> None:
    import dataclasses

    from fastxai.store import open_run
    from fastxai.types import Preprocess

    grey = Preprocess(size=(20, 24), resize=None, mean=(0.0,), std=(1.0,))
    folder, config = make.begin(preprocess=grey)
    batch = make.batch(["a"])
    batch = dataclasses.replace(batch, images=dataclasses.replace(batch.images, pixels=batch.images.pixels[:, :1]))
    with make.writer(folder, config) as writer:
        writer.append(batch)
    with h5py.File(folder / "shards" / "part-0-00000.h5") as file:
        assert file["entry/image/pixels"].shape == (1, 20, 24)
        assert text(file["entry/image/pixels"].attrs["interpretation"]) == "image"
    images = open_run(folder).read().images
    assert images is not None
    assert images.equal(batch.images.pixels)
