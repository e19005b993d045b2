from __future__ import annotations

import os
from typing import Any

import h5py
import numpy as np
import pytest

from fastxai.errors import ArgumentError, CannotRun, SchemaError
from fastxai.explainers import GradCam
from fastxai.store import build_index, files, open_run, verify


@pytest.mark.parametrize("changes", [{}, {"store": "compact"}, {"pixels": False}])
def test_a_good_run_has_no_problems(make: Any, ids: list[str], changes: dict[str, Any]) -> None:
    folder = make.run(ids, [ids[3]], **changes)
    build_index(folder)
    assert verify(folder) == []


def test_a_flipped_byte_anywhere_is_found(make: Any) -> None:
    make.explainers = (GradCam(),)
    folder = make.run(["a", "b"])
    shard = folder / "shards" / "part-0-00000.h5"
    good = shard.read_bytes()
    rng = np.random.default_rng(0)
    for position in [0, len(good) - 1, *rng.integers(0, len(good), 200).tolist()]:
        broken = bytearray(good)
        broken[position] ^= 1 << int(rng.integers(8))
        shard.write_bytes(broken)
        assert verify(folder) != [], position
    shard.write_bytes(good)
    assert verify(folder) == []


def test_a_flipped_byte_in_a_map_is_never_returned(make: Any, ids: list[str]) -> None:
    folder = make.run(ids[:4])
    make.damage_map(folder)
    run = open_run(folder)
    assert run["gradient-shap"][1].maps.shape == (2, 20, 24)
    with pytest.raises(CannotRun, match=r"gradient-shap/maps rows 2 to 2 cannot be read; see `fastxai verify`"):
        run["gradient-shap"][2]
    with pytest.raises(CannotRun, match="gradient-shap/maps"):
        run.read()


def test_missing_shards_are_named(make: Any, ids: list[str]) -> None:
    folder = make.run(ids, shard_images=2)
    (folder / "shards" / "part-0-00002.h5").unlink()
    assert [str(problem) for problem in verify(folder)] == [
        "shards/part-0-00002.h5: is missing: there are later ones of its worker"
    ]


def test_a_renamed_shard_is_found(make: Any, ids: list[str]) -> None:
    folder = make.run(ids[:4])
    (folder / "shards" / "part-0-00000.h5").rename(folder / "shards" / "part-1-00000.h5")
    assert any("was written as part-0-0" in str(problem) for problem in verify(folder))


def test_missing_data_and_wrong_counts_are_found(make: Any, ids: list[str]) -> None:
    folder = make.run(ids[:4])
    shard = folder / "shards" / "part-0-00000.h5"
    with h5py.File(shard, "r+") as file:
        del file["entry/lime/weights"]
        values = file["entry/gradcam/native"][:3]
        del file["entry/gradcam/native"]
        file.create_dataset("entry/gradcam/native", data=values, chunks=values.shape, fletcher32=True)
    problems = "\n".join(str(problem) for problem in verify(folder))
    assert "does not end in a seal" in problems or "bytes are not those" in problems
    assert "no 'entry/lime/weights'" in problems
    assert "entry/gradcam/native has the shape (3, 2, 3, 4), not (4, target, cam_y, cam_x)" in problems


def test_a_file_cut_off_anywhere_is_found(make: Any, ids: list[str]) -> None:
    folder = make.run(ids[:4])
    shard = folder / "shards" / "part-0-00000.h5"
    good = shard.read_bytes()
    whole = len(good) - files.SEAL_LENGTH
    lengths = {0, 1, 7, 8, 48, 95, 96, 512, whole // 2, whole - 1, whole, whole + 1, len(good) - 1}
    for length in lengths:
        shard.write_bytes(good[:length])
        assert [problem.file for problem in verify(folder)][:1] == ["shards/part-0-00000.h5"], length
    shard.write_bytes(good + b"x")
    assert verify(folder) != []


@pytest.mark.parametrize("name", ["run.json", "index.h5"])
def test_a_flipped_byte_of_the_other_files_is_found(make: Any, name: str) -> None:
    make.explainers = (GradCam(),)
    folder = make.run(["a", "b"])
    path = build_index(folder).with_name(name)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(good), 60).tolist():
        broken = bytearray(good)
        broken[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        try:
            found = verify(folder)
        except SchemaError as error:  # of a run.json that is no JSON or of another schema
            found = [error]
        assert found != [], position
    path.write_bytes(good)
    assert verify(folder) == []


def test_images_that_are_there_twice_are_found(make: Any) -> None:
    folder, config = make.begin()
    for worker, names in (("0", ["a", "b", "a"]), ("1", ["c", "b", "a"])):
        with make.writer(folder, config, worker=worker, generation=1) as writer:
            for name in names:
                writer.append(make.batch([name]))
    with make.writer(folder, config, worker="2") as writer:  # explained again: fine
        writer.append(make.batch(["a"]))
    assert [str(problem) for problem in verify(folder)] == [
        "shards/part-0-00000.h5: has 2 rows of the image 'a'",
        "shards/part-1-00000.h5: holds 'b' and 1 more in generation 1, as shards/part-0-00000.h5 does",
    ]


def test_an_unknown_status_is_found(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, config = make.begin()
    with make.writer(folder, config) as writer:
        arrays = writer._arrays

        def changed(batch: Any) -> Any:
            return arrays(batch) | {"image/status": np.array([77], dtype=np.uint8)}

        monkeypatch.setattr(writer, "_arrays", changed)
        writer.append(make.batch(["a"]))
    assert [str(problem) for problem in verify(folder)] == [
        "shards/part-0-00000.h5: has images with an unknown status: 77"
    ]


def test_another_hdf5_file_is_a_problem(make: Any) -> None:
    folder = make.run(["a"])
    with h5py.File(folder / "shards" / "part-1-00000.h5", "w") as file:
        file["entry/image/id"] = [1, 2]
    (folder / "shards" / "part-2-00000.h5").write_bytes(
        (make.run(["a"], name="o", seed=1) / "shards/part-0-00000.h5").read_bytes()
    )
    found = {problem.file: problem.what for problem in verify(folder) if "seal" not in problem.what}
    assert "is not a shard of a run" in found["shards/part-1-00000.h5"]
    assert "belongs to a run with another configuration" in found["shards/part-2-00000.h5"]


def test_a_pipe_in_the_place_of_a_shard_stops_nothing(make: Any) -> None:
    folder = make.run(["a"])
    os.mkfifo(folder / "shards" / "part-1-00000.h5")
    assert [problem.what for problem in verify(folder)] == [f"{folder}/shards/part-1-00000.h5 must be a file"]


def test_rubbish_is_a_problem_not_an_error(make: Any, ids: list[str]) -> None:
    folder = make.run(ids[:4])
    for number, contents in enumerate((b"", b"x" * 5000, b"\x89HDF\r\n\x1a\n" + b"\0" * 500)):
        (folder / "shards" / f"part-9-{number:05d}.h5").write_bytes(contents)
    found = {problem.file for problem in verify(folder)}
    assert found == {f"shards/part-9-0000{number}.h5" for number in range(3)}


def test_what_is_not_a_run(make: Any) -> None:
    with pytest.raises(ArgumentError, match=r"RUN must be a folder with a run.json"):
        verify(make.root)
