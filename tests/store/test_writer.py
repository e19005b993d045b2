from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import pytest

from fastxai.errors import ArgumentError, CannotRun, RunMismatch
from fastxai.store import files as files_module
from fastxai.store import open_run
from fastxai.store import writer as writer_module


def shard_names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "shards").iterdir() if path.suffix != ".lock")


def test_shards_close_after_so_many_images(make: Any, ids: list[str]) -> None:
    folder, config = make.begin()
    with make.writer(folder, config, shard_images=4) as writer:
        writer.append(make.batch(ids[:3]))
        assert shard_names(folder) == []
        writer.append(make.batch(ids[3:9]))  # crosses two borders
        assert shard_names(folder) == ["part-0-00000.h5", "part-0-00001.h5"]
        assert writer.committed == 8
    assert shard_names(folder) == ["part-0-00000.h5", "part-0-00001.h5", "part-0-00002.h5"]
    assert open_run(folder).ids == tuple(ids[:9])


def test_shards_close_after_so_many_seconds(make: Any, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(writer_module.time, "monotonic", lambda: clock[0])
    folder, config = make.begin()
    with make.writer(folder, config, shard_seconds=60) as writer:
        writer.append(make.batch(ids[:1]))
        clock[0] += 59
        writer.commit_if_due()
        assert shard_names(folder) == []
        clock[0] += 1
        writer.commit_if_due()
        assert len(shard_names(folder)) == 1
        clock[0] += 600  # the clock starts with the next image, not with the last shard
        writer.append(make.batch(ids[1:2]))
        assert len(shard_names(folder)) == 1


def test_a_crash_before_the_rename_leaves_only_a_part(
    make: Any, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, config = make.begin()
    with make.writer(folder, config) as writer:
        writer.append(make.batch(ids[:2]))

    def crash(*args: object) -> None:
        raise KeyboardInterrupt

    writer = make.writer(folder, config)
    writer.append(make.batch(ids[2:4]))
    monkeypatch.setattr(files_module.os, "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        writer.close()
    monkeypatch.undo()
    assert shard_names(folder) == ["part-0-00000.h5", "part-0-00001.h5.part"]
    assert open_run(folder).ids == tuple(ids[:2])

    (folder / "shards" / "part-0-1-00000.h5.part").write_text("another worker's")
    (folder / "shards" / "part-00-00000.h5.part").write_text("another worker's")
    with make.writer(folder, config):
        assert shard_names(folder) == ["part-0-00000.h5", "part-0-1-00000.h5.part", "part-00-00000.h5.part"]


def test_a_disk_that_fills_up_before_the_commit_ends_in_one_line(
    make: Any, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, config = make.begin()

    def full(self: Any, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastxai.store.spool.Spool.put", full)
    writer = make.writer(folder, config)
    writer.append(make.batch(ids[:2]))
    with pytest.raises(CannotRun, match="No space left on device; what was committed before is safe"):
        writer.close()


def test_a_full_disk_ends_in_one_line(make: Any, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, config = make.begin()
    writer = make.writer(folder, config, shard_images=2)
    writer.append(make.batch(ids[:2]))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files_module.os, "fsync", full)
    with pytest.raises(CannotRun, match="No space left on device; what was committed before is safe"):
        writer.append(make.batch(ids[2:4]))
    monkeypatch.undo()
    with pytest.raises(CannotRun, match="closed"):
        writer.append(make.batch(ids[4:6]))
    writer.close()
    assert shard_names(folder) == ["part-0-00000.h5"]
    with make.writer(folder, config) as writer:
        writer.append(make.batch(ids[2:4]))
    assert open_run(folder).ids == tuple(ids[:4])


def test_an_exception_commits_what_is_complete(make: Any, ids: list[str]) -> None:
    folder, config = make.begin()

    def body() -> None:
        with make.writer(folder, config) as writer:
            writer.append(make.batch(ids[:2]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        body()
    assert open_run(folder).ids == tuple(ids[:2])
    with make.writer(folder, config):  # the lock was released
        pass


def test_a_second_writer_of_one_name_is_refused(make: Any) -> None:
    folder, config = make.begin()
    with make.writer(folder, config), make.writer(folder, config, worker="1"):
        with pytest.raises(CannotRun, match="worker '0' is at work in .* already"):
            make.writer(folder, config)
        code = (
            "import sys, filelock\n"
            "try: filelock.FileLock(sys.argv[1], blocking=False).acquire()\n"
            "except filelock.Timeout: print('refused')"
        )
        lock = folder / "shards" / "part-0.lock"
        done = subprocess.run([sys.executable, "-c", code, str(lock)], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "refused"


def test_another_configuration_is_refused_before_anything_is_locked(make: Any) -> None:
    folder, _ = make.begin()
    with pytest.raises(RunMismatch, match="seed is 0 there, 1 here"):
        make.writer(folder, make.config(seed=1))
    assert list((folder / "shards").iterdir()) == []


def test_resume_reads_what_is_done(make: Any, ids: list[str]) -> None:
    folder = make.run(ids, failed=[ids[1]])
    run = open_run(folder)
    assert run.done() == dict.fromkeys(ids, "0" * 32)
    assert run.done(failed=False) == {i: "0" * 32 for i in ids if i != ids[1]}
    assert run.generation == 1


def test_images_explained_again_win_by_generation(make: Any, ids: list[str], same: Any) -> None:
    folder = make.run(ids)
    config = make.config()
    # Worker "00" sorts before worker "0": it wins by its generation, not by its place.
    with make.writer(folder, config, worker="00") as writer:
        assert writer.generation == 2
        changed = make.batch([ids[2]], digest="1" * 32)
        changed.methods["gradient-shap"]["delta"][:] = 7
        writer.append(changed)
    run = open_run(folder)
    assert sorted(run.ids) == sorted(ids)
    assert run.done()[ids[2]] == "1" * 32
    found = run.found([ids[2], ids[3]])
    assert found["gradient-shap"].delta[0].tolist() == [7, 7]
    same(found["gradient-shap"].delta[1], make.batch([ids[3]]).methods["gradient-shap"]["delta"][0])


def test_numbers_go_on_after_a_restart(make: Any, ids: list[str]) -> None:
    folder, config = make.begin()
    for i in ids[:3]:
        with make.writer(folder, config, worker="gpu-1") as writer:
            writer.append(make.batch([i]))
    assert shard_names(folder) == [f"part-gpu-1-0000{n}.h5" for n in range(3)]
    with h5py.File(folder / "shards" / "part-gpu-1-00002.h5") as file:
        assert int(file["entry"].attrs["generation"]) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"worker": "a/b"}, "worker must be"),
        ({"shard_images": 0}, "shard_images must be at least 1"),
        ({"shard_seconds": 0.0}, "shard_seconds must be"),
    ],
)
def test_arguments(make: Any, options: dict[str, Any], words: str) -> None:
    folder, config = make.begin()
    with pytest.raises(ArgumentError, match=words):
        make.writer(folder, config, **options)


def test_a_batch_that_does_not_fit_is_refused_whole(make: Any, ids: list[str]) -> None:
    folder, config = make.begin()
    with make.writer(folder, config) as writer:
        writer.append(make.batch(ids[:2]))
        broken = make.batch(ids[2:4])
        broken.methods["gradcam"]["maps"] = broken.methods["gradcam"]["maps"][:, :, :-1]
        with pytest.raises(ArgumentError, match="gradcam/maps must have the shape"):
            writer.append(broken)
        broken = make.batch(ids[2:4])
        broken.images.ids[0] = "\udcff"
        with pytest.raises(ArgumentError, match="image/id must be text that UTF-8 can hold"):
            writer.append(broken)
        broken = make.batch(ids[2:4])
        del broken.methods["gradcam"]["native"]
        with pytest.raises(ArgumentError, match="batch must have gradcam/native"):
            writer.append(broken)
    assert open_run(folder).ids == tuple(ids[:2])


def test_packing_keeps_a_bounded_backlog(make: Any, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    slow = writer_module.pack

    def pack(values: Any) -> bytes:
        time.sleep(0.001)
        return slow(values)

    monkeypatch.setattr(writer_module, "pack", pack)
    monkeypatch.setattr(writer_module, "_BACKLOG", 10_000)
    folder, config = make.begin()
    with make.writer(folder, config) as writer:
        for start in range(0, 9, 3):
            writer.append(make.batch(ids[start : start + 3]))
            assert writer._backlog_bytes <= 10_000 + 4 * 20 * 24 * 8
    assert len(open_run(folder)) == 9
