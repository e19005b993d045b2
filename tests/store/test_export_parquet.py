from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np
import pytest

from fastxai.errors import CannotRun, MissingExtra
from fastxai.store import export_parquet, export_run, files, open_run

pq = pytest.importorskip("pyarrow.parquet")

METHODS = ["lime", "lime-coarse", "gradient-shap", "gradcam"]


@pytest.mark.parametrize("block", [256, 3])
@pytest.mark.parametrize("changes", [{}, {"store": "compact"}])
def test_a_row_for_each_image_target_and_method(
    make: Any, ids: list[str], changes: dict[str, Any], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_parquet, "_BLOCK", block)
    folder = make.run(ids, [ids[3]], shard_images=3, **changes)
    seen: list[tuple[int, int]] = []
    out = export_run(folder, make.root / "run.parquet", progress=lambda *done: seen.append(done))
    assert seen[-1] == (10, 10)
    found = open_run(folder).read()
    table = pq.read_table(out)
    assert pq.ParquetFile(out).num_row_groups == -(-10 // block)
    rows = table.to_pylist()
    assert len(rows) == 10 * 2 * 4
    keys = [(row["image"], row["target"], row["method"]) for row in rows]
    assert keys == [(image, target, method) for image in ids for target in range(2) for method in METHODS]
    for row in rows:
        i, k, method = ids.index(row["image"]), row["target"], row["method"]
        assert row["digest"] == found.digests[i]
        assert (row["height"], row["width"]) == tuple(found.sizes[i].tolist())
        assert row["label"] == int(found.labels[i])
        assert row["predictions"] == found.predictions[i].tolist()
        assert row["probabilities"] == pytest.approx(found.probabilities[i].tolist(), abs=0)
        if i == 3:
            assert (row["status"], row["error"]) == (1, "cannot be decoded: é")
            for name in ("class", "class_name", "probability", "weights", "score", "delta", "segments"):
                assert row[name] is None
            continue
        assert row["class"] == int(found.targets[i, k])
        place = found.predictions[i].tolist().index(row["class"])
        assert row["probability"] == float(found.probabilities[i, place])
        if method.startswith("lime"):
            count = int(found[method].counts[i])
            assert row["segments"] == len(row["weights"]) == count
            np.testing.assert_array_equal(np.float32(row["weights"]), found[method].weights[i, k, :count].numpy())
            assert row["score"] == float(found[method].score[i, k])
            assert row["intercept"] == float(found[method].intercept[i, k])
            assert row["delta"] is None
        elif method == "gradient-shap":
            assert row["delta"] == float(found[method].delta[i, k])
            assert row["weights"] is row["segments"] is None
    assert "maps" not in table.column_names
    assert json.loads(table.schema.metadata[b"fastxai"])["seed"] == 0


def test_classes_have_their_names_and_no_label_is_null(make: Any) -> None:
    folder, config = make.begin(class_names=tuple(f"class {number}" for number in range(1000)))
    batch = make.batch(["a", "b"])
    batch.images.labels[:] = -1
    batch.classes[:, 3:] = -1  # a model of three classes
    batch.probabilities[:, 3:] = math.nan
    batch.targets[:, 1] = next(number for number in range(1000) if number not in batch.classes)  # not predicted
    with make.writer(folder, config) as writer:
        writer.append(batch)
    rows = pq.read_table(export_run(folder, make.root / "run.parquet")).to_pylist()
    assert {row["label"] for row in rows} == {None}
    assert {len(row["predictions"]) for row in rows} == {3}
    assert all(row["class_name"] == f"class {row['class']}" for row in rows)
    assert [row["probability"] is None for row in rows] == [row["target"] == 1 for row in rows], rows


def test_parts_of_a_run(make: Any, ids: list[str]) -> None:
    folder = make.run(ids)
    out = export_run(folder, make.root / "x", format="parquet", ids=[ids[2]], methods=["gradcam", "gradient-shap"])
    table = pq.read_table(out)
    assert table.column("method").to_pylist() == ["gradient-shap", "gradcam"] * 2
    assert "weights" not in table.column_names


def test_nothing_is_left_of_an_export_that_fails(
    make: Any, ids: list[str], faults: Any, faulty: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make.run(ids[:4])
    writes = faults.FaultyDisk()
    faulty(writes)
    export_run(folder, make.root / "good.parquet")
    steps = list(writes.done)
    assert steps[0] == "open"
    assert steps[-4:] == ["fsync", "close", "rename", "sync_folder"]
    code, lasting = faults.FULL
    for at in range(1, len(steps) - 2):  # up to the rename
        faulty(faults.FaultyDisk(at, code, lasting))
        with pytest.raises(CannotRun, match="run.parquet cannot be written"):
            export_run(folder, make.root / "run.parquet")
        faulty(None)
        assert not list(make.root.glob("run.parquet*")), at
    assert files.disk is not writes


def test_without_pyarrow_the_extra_is_named(make: Any, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'fastxai\[parquet\]'"):
        export_run(make.run(ids[:2]), make.root / "run.parquet")
