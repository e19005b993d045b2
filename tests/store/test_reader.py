from __future__ import annotations

import dataclasses
import pickle
import threading
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from fastxai.errors import ArgumentError
from fastxai.results import collect
from fastxai.store import build_index, open_run, verify
from fastxai.types import Status


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("store", ["full", "compact"])
def test_a_run_reads_back_bit_for_bit(make: Any, ids: list[str], same: Any, indexed: bool, store: str) -> None:
    failed = [ids[1], ids[8]]
    folder = make.run(ids, failed, store=store)
    if indexed:
        build_index(folder)
    run = open_run(folder)
    assert run.info()["indexed"] == indexed
    config = make.config()
    # One batch pads its segments to the longest of all, as a read of the whole run does.
    want = collect(
        [make.batch(ids, failed)],
        make.explainers,
        preprocess=config.preprocess,
        seed=0,
        class_names=config.class_names,
    )
    found = run.read()
    assert len(run) == len(found) == len(ids)
    for name in ("ids", "digests", "errors", "preprocess", "seed", "class_names", "failures"):
        assert getattr(found, name) == getattr(want, name), name
    for name in ("status", "sizes", "crops", "labels", "images", "predictions", "probabilities", "targets"):
        same(getattr(found, name), getattr(want, name))
    for name in ("predictions", "probabilities", "targets", "status", "labels"):
        same(getattr(run, name), getattr(want, name))
    assert run.failures == want.failures == dict.fromkeys(failed, "cannot be decoded: é")
    good = want.status == int(Status.OK)
    for method in want:
        assert list(found[method].data) == [field.name for field in want[method].explainer.fields()]
        assert found[method].explainer == want[method].explainer
        for name, values in want[method].data.items():
            if (store, method, name) == ("compact", "gradcam", "maps"):
                # Rebuilt in another batch: interpolation rounds a map in [0, 1] by a few steps of 6e-8 there.
                torch.testing.assert_close(found[method].maps, values, rtol=0, atol=1e-6, equal_nan=True)
            else:
                same(found[method].data[name], values)
        if want[method].segments is not None:
            same(found[method].segments[good], want[method].segments[good])
            same(found[method].counts, want[method].counts)
    assert found["lime"].weights.isnan().any(-1).any()  # ragged indeed
    assert found["gradcam"].maps[1].isnan().all()


def test_one_image_and_slices(make: Any, ids: list[str], same: Any) -> None:
    run = open_run(make.run(ids))
    for position, image in enumerate(ids):
        want = make.batch([image]).methods
        one = run["lime"][position]
        same(one.maps, want["lime"]["maps"][0])
        same(one.weights, want["lime"]["weights"][0])  # as long as its own segments, whatever its shard held
        assert one.segments.shape == (20, 24)
    same(run["gradcam"][-1].native, make.batch(ids[-1:]).methods["gradcam"]["native"][0])
    backwards = run["gradient-shap"][8:2:-2]
    same(backwards.maps, make.batch([ids[i] for i in (8, 6, 4)]).methods["gradient-shap"]["maps"])
    assert run["lime"][2:5].mask(top_segments=2).shape == (3, 2, 20, 24)
    found = run.found([ids[7], ids[0], ids[7]], methods=["gradcam"])
    assert found.ids == (ids[7], ids[0], ids[7])
    assert list(found) == ["gradcam"]
    same(found["gradcam"].maps, make.batch([ids[7], ids[0], ids[7]]).methods["gradcam"]["maps"])
    assert sum(1 for _ in run["gradcam"]) == len(ids)
    with pytest.raises(IndexError):
        run["lime"][len(ids)]
    with pytest.raises(ArgumentError, match="method must be one of lime, lime-coarse"):
        run["shap"]
    with pytest.raises(ArgumentError, match="images must be at least one"):
        run["lime"][3:3]
    with pytest.raises(ArgumentError, match="ids must be those of images"):
        run.found(["nobody"])


def test_order_is_by_worker_and_number(make: Any, ids: list[str]) -> None:
    folder, config = make.begin()
    for worker, image in (("10", ids[0]), ("9", ids[1]), ("gpu", ids[2]), ("9", ids[3])):
        with make.writer(folder, config, worker=worker) as writer:
            writer.append(make.batch([image]))
    assert open_run(folder).ids == (ids[1], ids[3], ids[0], ids[2])


def test_compact_is_smaller_and_has_no_maps(make: Any, ids: list[str]) -> None:
    full, compact = (open_run(make.run(ids, name=name, store=name)) for name in ("full", "compact"))
    assert compact.info()["bytes"] < full.info()["bytes"]
    with h5py.File(compact.path / "shards" / "part-0-00000.h5") as file:
        assert "maps" not in file["entry/lime"]
        assert "maps" not in file["entry/gradcam"]
        assert "maps" in file["entry/gradient-shap"]


def test_an_empty_run(make: Any) -> None:
    folder, _ = make.begin()
    for _ in range(2):
        run = open_run(folder)
        assert len(run) == 0
        assert run.ids == ()
        assert run.done() == run.failures == {}
        assert run.predictions.shape == (0, 5)
        assert run.targets.shape == (0, 2)
        with pytest.raises(ArgumentError, match="images must be at least one"):
            run.read()
        build_index(folder)


@pytest.mark.parametrize("fields", [False, True])
@pytest.mark.parametrize("good_first", [False, True])
def test_batches_of_failed_images(make: Any, same: Any, fields: bool, good_first: bool) -> None:
    """A batch without a readable picture may come without fields and segments; sizes may not be known yet."""
    folder, config = make.begin()
    good = make.batch(["c", "d"])
    bad = make.batch(["a", "b"], failed=["a", "b"])
    if not fields:
        bad.images.segments.clear()
        bad = dataclasses.replace(bad, methods={name: {} for name in bad.methods})
    with make.writer(folder, config, shard_images=2) as writer:
        for batch in (good, bad) if good_first else (bad, good):
            writer.append(batch)
    assert verify(folder) == []
    build_index(folder)
    run = open_run(folder)
    found = run.found(["a", "b"])
    assert found["lime"].maps.isnan().all()
    assert found["lime"].weights.isnan().all()
    assert found["gradcam"].native.isnan().all()
    assert found["lime"].samples.tolist() == [-1, -1]
    assert found["lime"].counts.tolist() == [0, 0]
    assert found.targets.tolist() == [[-1, -1], [-1, -1]]
    both = run.found(["a", "c"])
    assert both["gradcam"].native.shape == (2, 2, 3, 4)
    assert both["gradcam"].native[0].isnan().all()
    same(both["gradcam"].native[1], good.methods["gradcam"]["native"][0])
    with h5py.File(folder / "index.h5") as file:
        shown = file["entry/gradcam/native"][:]
        assert shown.shape == (4, 2, 3, 4)
        assert np.isnan(shown[2:] if good_first else shown[:2]).all()


def test_a_good_image_must_have_its_fields(make: Any) -> None:
    folder, config = make.begin()
    with make.writer(folder, config) as writer:
        bare = make.batch(["a", "b"], failed=["b"])
        with pytest.raises(ArgumentError, match="batch must have lime/maps"):
            writer.append(dataclasses.replace(bare, methods={name: {} for name in bare.methods}))
        bare.images.segments.clear()
        with pytest.raises(ArgumentError, match="batch must have the segments"):
            writer.append(bare)


def test_info(make: Any, ids: list[str]) -> None:
    info = open_run(make.run(ids, [ids[0]])).info()
    assert (info["images"], info["failed"], info["shards"]) == (10, 1, 3)
    assert [method["name"] for method in info["methods"]] == ["lime", "lime-coarse", "gradient-shap", "gradcam"]
    assert info["bytes"] > 1000
    assert info["source"] == "synthetic"


def test_a_run_pickles_and_reads_from_threads(make: Any, ids: list[str], same: Any) -> None:
    run = pickle.loads(pickle.dumps(open_run(make.run(ids, shard_images=1))))
    want = make.batch(ids).methods["gradcam"]["native"]
    errors: list[BaseException] = []

    def read(start: int) -> None:
        try:
            for step in range(20):
                position = (start + 3 * step) % len(ids)
                assert torch.equal(run["gradcam"][position].native, want[position])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_more_shards_than_open_files(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastxai.store import handles

    monkeypatch.setattr(handles, "_OPEN", 2)
    names = [f"{n}.png" for n in range(7)]
    run = open_run(make.run(names, shard_images=1))
    assert run.ids == tuple(names)
    assert len(run.read()) == 7
    assert len(run._handles._open) == 2
