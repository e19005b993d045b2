"""Disks that fill up, break or turn read-only, and processes that end, at every operation of the store."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fastxai.errors import CannotRun
from fastxai.explainers import GradCam
from fastxai.store import build_index, create_run, export_run, files, is_run, open_run, verify
from fastxai.types import Settings

KINDS = ("FULL", "BROKEN", "READ_ONLY")


@pytest.fixture
def small(make: Any) -> Any:
    """Few operations: one method, one image a shard."""
    make.explainers = (GradCam(),)
    return make


@pytest.fixture
def begun(small: Any) -> Path:
    """A run with one committed image, to be copied."""
    return small.run(["a"])


def go_on(make: Any, folder: Path) -> None:
    """Join the run, explain the image that is missing, index the run."""
    config = make.config()
    create_run(folder, config, Settings())
    done = open_run(folder).done()
    with make.writer(folder, config, shard_images=1) as writer:
        if "b" not in done:
            writer.append(make.batch(["b"]))
    build_index(folder)


def check(make: Any, folder: Path, ids: set[str]) -> None:
    """What is committed is at least that, and reads back as it was made."""
    with open_run(folder) as run:
        assert ids <= set(run.ids)
        for position, image in enumerate(run.ids):
            want = make.batch([image]).methods["gradcam"]
            assert torch.equal(run["gradcam"][position].maps, want["maps"][0])
            assert torch.equal(run["gradcam"][position].native, want["native"][0])


def check_finished(make: Any, folder: Path) -> None:
    go_on(make, folder)
    check(make, folder, {"a", "b"})
    assert verify(folder) == []
    assert open_run(folder).info()["indexed"]
    assert not list(folder.rglob("*.part"))


def attempt(work: Callable[[], object]) -> BaseException | None:
    """What ended the work."""
    try:
        work()
    except BaseException as error:
        return error
    return None


def one_line(error: BaseException | None, code: int) -> bool:
    return isinstance(error, CannotRun) and os.strerror(code) in str(error) and len(str(error).splitlines()) == 1


def test_a_disk_that_fails_at_any_operation(small: Any, begun: Path, faults: Any, faulty: Callable[..., Any]) -> None:
    """One line, what was committed stays, and the run goes through when the disk is well again."""
    seen = set()
    for at in range(1, 1000):
        code, lasting = getattr(faults, KINDS[at % 3])
        folder = shutil.copytree(begun, small.root / str(at))
        disk = faulty(faults.FaultyDisk(at, code, lasting))
        error = attempt(lambda folder=folder: go_on(small, folder))
        if not disk.hit:
            break
        seen.add(disk.hit)
        assert one_line(error, code)
        disk.bury()
        faulty(None)
        check(small, folder, {"a"})
        check_finished(small, folder)
    assert error is None
    assert seen == set(faults.OPERATIONS) - {"unlink"}


def test_a_process_that_ends_at_any_operation(small: Any, begun: Path, faults: Any, faulty: Callable[..., Any]) -> None:
    """No clean-up runs. What was committed before stays, what is there is whole, and a resume finishes the run."""
    for at in range(1, 1000):
        folder = shutil.copytree(begun, small.root / str(at))
        disk = faulty(faults.FaultyDisk(at))
        error = attempt(lambda folder=folder: go_on(small, folder))
        if not disk.hit:
            break
        disk.bury()
        faulty(None)
        check(small, folder, {"a", "b"} if disk.done.count("rename") > (disk.hit == "rename") else {"a"})
        check_finished(small, folder)
        assert isinstance(error, faults.Killed)
    assert error is None
    assert at > 20


@pytest.mark.parametrize("kind", [*KINDS, "KILL"])
def test_a_run_that_cannot_be_begun(small: Any, faults: Any, faulty: Callable[..., Any], kind: str) -> None:
    """There is no run, or a whole one; beginning again works."""
    code, lasting = (None, ()) if kind == "KILL" else getattr(faults, kind)
    for at in range(1, 100):
        folder = small.root / str(at) / "run"
        disk = faulty(faults.FaultyDisk(at, code, lasting))
        error = attempt(lambda folder=folder: create_run(folder, small.config(), Settings()))
        assert error is None or code is None or one_line(error, code)
        faulty(None)
        disk.bury()
        if not disk.hit:
            break
        assert is_run(folder) == (disk.hit == "sync_folder")
        create_run(folder, small.config(), Settings())
        assert len(open_run(folder)) == 0
    assert at > 5


@pytest.mark.parametrize("how", ["errors", "kills"])
def test_an_export_that_fails_at_any_operation(
    small: Any, begun: Path, faults: Any, faulty: Callable[..., Any], how: str
) -> None:
    """Nothing has the name of the file until the file is whole; HDF5 never hears of a write that failed."""
    for at in range(1, 1000):
        out = small.root / f"{at}.h5"
        code, lasting = getattr(faults, KINDS[at % 3]) if how == "errors" else (None, ())
        disk = faulty(faults.FaultyDisk(at, code, lasting))
        error = attempt(lambda out=out: export_run(begun, out))
        faulty(None)
        disk.bury()
        if not disk.hit:
            break
        assert isinstance(error, faults.Killed) or one_line(error, code)
        assert out.exists() == (disk.hit == "sync_folder")
    assert at > 20
    assert verify(out) == []
    check(small, out, {"a"})


def test_an_interrupt_while_hdf5_writes(small: Any, begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = files.disk.write
    count = itertools.count()

    def write(*args: Any) -> None:
        if next(count) == 20:
            raise KeyboardInterrupt
        real(*args)

    monkeypatch.setattr(files.disk, "write", write)
    with pytest.raises(KeyboardInterrupt):
        export_run(begun, small.root / "one.h5")
    monkeypatch.undo()
    assert not list(small.root.glob("one.h5*"))
    export_run(begun, small.root / "one.h5")


@pytest.mark.parametrize("what", ["run", "shards"])
def test_a_folder_that_may_not_be_written(small: Any, what: str) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    folder, config = small.begin()
    locked = folder if what == "run" else folder / "shards"
    locked.chmod(0o500)
    try:
        with pytest.raises(CannotRun, match="cannot be written: Permission denied"):
            build_index(folder) if what == "run" else small.writer(folder, config)
    finally:
        locked.chmod(0o700)


def test_an_unreadable_folder_is_one_line(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = small.begin()

    def broken(path: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("fastxai.store.guard.os.scandir", broken)
    with pytest.raises(CannotRun, match=r"shards cannot be read: Input/output error"):
        open_run(folder)
