from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from fastxai.errors import ArgumentError, CannotRun, SchemaError
from fastxai.store import build_index, export_run, files, open_run, verify


def same_results(found: Any, want: Any) -> None:
    """Everything of two results, bit for bit."""
    for name in ("ids", "digests", "errors", "preprocess", "seed", "class_names"):
        assert getattr(found, name) == getattr(want, name), name
    for name in ("status", "sizes", "crops", "labels", "predictions", "probabilities", "targets"):
        assert torch.equal(*(getattr(each, name).nan_to_num(7) for each in (found, want))), name
    assert list(found) == list(want)
    for method in want:
        for name, values in want[method].data.items():
            torch.testing.assert_close(found[method].data[name], values, rtol=0, atol=0, equal_nan=True)
        if want[method].segments is not None:
            assert torch.equal(found[method].segments, want[method].segments)


@pytest.mark.parametrize("changes", [{}, {"store": "compact"}, {"pixels": False}])
@pytest.mark.parametrize("indexed", [False, True])
def test_one_file_reads_like_the_run(make: Any, ids: list[str], changes: dict[str, Any], indexed: bool) -> None:
    folder = make.run(ids, [ids[3]], shard_images=3, **changes)
    with make.writer(folder, make.config(**changes), worker="7") as writer:  # explained again, in a later shard
        writer.append(make.batch([ids[2], "later"], digest="1" * 32))
    if indexed:
        build_index(folder)
    seen: list[tuple[int, int]] = []
    out = export_run(folder, make.root / "one.h5", progress=lambda *done: seen.append(done))
    assert seen[-1] == (11, 11)
    run, one = open_run(folder), open_run(out)
    assert len(one) == 11
    same_results(one.read(), run.read())
    if changes.get("pixels", True):
        assert torch.equal(one.read().images, run.read().images)
    assert one.done() == run.done()
    assert one.failures == run.failures
    assert one.generation == run.generation == 2
    assert one.manifest == dataclasses.replace(run.manifest, config=one.config)
    assert one.config.digest == run.config.digest
    assert one.info()["images"] == 11
    assert verify(out) == []
    same_results(open_run(export_run(out, make.root / "again.h5")).read(), one.read())


def test_parts_of_a_run(make: Any, ids: list[str]) -> None:
    folder = make.run(ids, shard_images=3)
    run = open_run(folder)
    out = export_run(folder, make.root / "part.h5", ids=[ids[7], ids[1], ids[7]], methods=["gradcam", "lime-coarse"])
    part = open_run(out)
    assert part.ids == (ids[1], ids[7])  # in run order
    assert part.methods == ("lime-coarse", "gradcam")
    same_results(part.read(), run.found([ids[1], ids[7]], methods=["lime-coarse", "gradcam"]))
    with h5py.File(out) as file:
        assert "lime" not in file["entry"]
        assert "segments" in file["entry"]  # the coarse ones, which the run calls otherwise
    bare = open_run(export_run(folder, make.root / "bare.h5", pixels=False))
    assert bare.read().images is None
    same_results(bare.read(), run.read())
    assert verify(out) == verify(bare.path) == []


def test_packed_chunks_travel_as_they_are(make: Any, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make.run(ids[:4])  # one shard: every row has the length that the file needs

    def refuse(values: Any) -> bytes:
        raise AssertionError("packed again")

    monkeypatch.setattr("fastxai.store.export.pack", refuse)
    out = export_run(folder, make.root / "one.h5")
    with h5py.File(out) as one, h5py.File(folder / "shards" / "part-0-00000.h5") as shard:
        for name in ("lime/maps", "segments/labels", "image/pixels"):
            chunks = [
                file["entry"][name].id.read_direct_chunk((2, *(0,) * (file["entry"][name].ndim - 1)))
                for file in (one, shard)
            ]
            assert chunks[0] == chunks[1]


@pytest.mark.parametrize("changes", [{}, {"store": "compact"}])
def test_viewers_open_it(make: Any, ids: list[str], changes: dict[str, Any]) -> None:
    nxdata = pytest.importorskip("silx.io.nxdata")
    out = export_run(make.run(ids[:7], shard_images=3, **changes), make.root / "one.h5")
    with h5py.File(out) as file:
        default = nxdata.get_default(file, validate=True)
        assert default.group.name == "/entry/lime"
        for name, group in file["entry"].items():
            if isinstance(group, h5py.Group) and group.attrs.get("NX_class") == b"NXdata":
                assert nxdata.NXdata(group).is_valid, name

        def look(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                assert not item.is_virtual, name
                assert item.fletcher32, name

        file.visititems(look)


def test_a_damaged_run_is_not_exported(make: Any, ids: list[str]) -> None:
    folder = make.run(ids[:4])
    make.damage_map(folder)
    with pytest.raises(CannotRun, match=r"part-0-00000.h5 is damaged: /entry/gradient-shap/maps rows 2 to 2"):
        export_run(folder, make.root / "one.h5")
    assert not list(make.root.glob("one.h5*"))
    good = open_run(export_run(folder, make.root / "one.h5", methods=["gradcam"]))
    assert len(good.read()) == 4


def test_a_damaged_file_is_refused(make: Any, ids: list[str]) -> None:
    out = export_run(make.run(ids[:4]), make.root / "one.h5")
    good = out.read_bytes()
    broken = bytearray(good)
    broken[len(good) // 3] ^= 1
    out.write_bytes(broken)
    assert any("bytes are not those that were written" in str(problem) for problem in verify(out))
    for contents in (b"", b"x" * 1000, good[: len(good) // 2]):
        out.write_bytes(contents)
        with pytest.raises(CannotRun, match="one.h5 cannot be opened"):
            open_run(out)
        assert len(verify(out)) == 1
    out.write_bytes((open_run(make.run(ids[:2], name="other")).shards[0].path).read_bytes())
    with pytest.raises(SchemaError, match="it has no 'entry/process/run'"):
        open_run(out)
    with h5py.File(out, "w") as file:
        file["entry/process/run"] = h5py.ExternalLink("elsewhere.h5", "/run")
    with pytest.raises(SchemaError, match="external link"):
        open_run(out)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ids": ["nobody"]}, "ids must be those of images in .*, got 'nobody'"),
        ({"ids": []}, "RUN must hold images to export"),
        ({"methods": ["shap"]}, "methods must be among lime, lime-coarse, gradient-shap, gradcam, got 'shap'"),
    ],
)
def test_arguments(make: Any, ids: list[str], options: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        export_run(make.run(ids[:2]), make.root / "one.h5", **options)
    assert not list(make.root.glob("one.h5*"))


def test_places_that_are_refused(make: Any, ids: list[str]) -> None:
    folder = make.run(ids[:2])
    (make.root / "there.h5").touch()
    for out, words in (
        (make.root / "there.h5", "out must be a new file"),
        (make.root / "no" / "one.h5", "out must lie in a folder that is there"),
        (folder / "shards" / "part-9-00000.h5", "out must lie outside of the run"),
    ):
        with pytest.raises(ArgumentError, match=words):
            export_run(folder, out)
    assert verify(folder) == []


def test_memory_is_bounded(make: Any, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Small columns go block by block, everything else chunk by chunk."""
    from fastxai.store import export

    monkeypatch.setattr(export, "_ROWS", 2)
    monkeypatch.setattr(export, "_BLOCK", 4)
    longest = 0
    write = files.disk.write

    def watch(stream: Any, data: bytes, offset: int) -> None:
        nonlocal longest
        longest = max(longest, len(data))
        write(stream, data, offset)

    monkeypatch.setattr(files.disk, "write", watch)
    folder = make.run(ids, shard_images=3)
    longest = 0
    out = export_run(folder, make.root / "one.h5")
    assert longest < out.stat().st_size / 10
    same_results(open_run(out).read(), open_run(folder).read())
    with h5py.File(out) as file:
        assert file["entry/image/id"].chunks == (2,)
        np.testing.assert_array_equal(file["entry/lime/image"][:], np.arange(10))


def test_an_empty_run_has_nothing_to_export(make: Any) -> None:
    folder, _ = make.begin()
    with pytest.raises(ArgumentError, match="RUN must hold images to export"):
        export_run(folder, Path(make.root / "one.h5"))
