"""Files that end or stop the process that reads them."""

from __future__ import annotations

from typing import Any

import pytest

from fastxai.errors import CannotRun
from fastxai.store import build_index, children, export_run, verify

# A child in which one shard does to HDF5 what a hostile file may do.
HURT = """
import os, signal, sys, time
sys.path[:] = sys.argv[1:]
from fastxai.store import children
real = children.check_shard
def check_shard(path, name, expected):
    if name == "part-0-00001.h5":
        {what}
    return real(path, name, expected)
children.check_shard = check_shard
children.serve()
"""


def test_children_say_what_this_process_says(make: Any, ids: list[str]) -> None:
    folder = make.run(ids, [ids[3]], shard_images=3)
    build_index(folder)
    shard = folder / "shards" / "part-0-00001.h5"
    good = shard.read_bytes()
    seen: list[tuple[int, int]] = []
    assert verify(folder, processes=2, progress=lambda *done: seen.append(done)) == []
    assert seen == [(n, 5) for n in range(1, 6)]
    broken = bytearray(good)
    broken[len(good) // 2] ^= 1
    shard.write_bytes(broken)
    found = verify(folder, processes=1)
    assert found == verify(folder) != []
    assert {problem.file for problem in found} == {"shards/part-0-00001.h5"}
    shard.write_bytes(good)
    assert verify(export_run(folder, make.root / "one.h5"), processes=1) == []


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the process that read it was ended by SIGSEGV"),
        ("os._exit(7)", "the process that read it ended with status 7"),
        ("time.sleep(600)", "reading it takes longer than 5 seconds"),
    ],
)
def test_a_file_that_hurts_is_a_problem_of_that_file(
    make: Any, monkeypatch: pytest.MonkeyPatch, what: str, words: str
) -> None:
    folder = make.run(["a", "b", "c"], shard_images=1)
    monkeypatch.setattr(children, "_PROGRAM", HURT.format(what=what))
    # The other shards are checked, by the next process where need be; 5 seconds are ample for them.
    found = verify(folder, processes=1, seconds=5.0)
    assert [str(problem) for problem in found] == [f"shards/part-0-00001.h5: cannot be checked: {words}"]


def test_a_child_that_cannot_start(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make.run(["a"])
    monkeypatch.setattr(children, "_PROGRAM", "import sys; sys.exit(1)")
    with pytest.raises(CannotRun, match="a process to check files in cannot be started"):
        verify(folder, processes=1)
    monkeypatch.setattr(children.sys, "executable", "/nowhere/python")
    with pytest.raises(CannotRun, match="cannot be started"):
        verify(folder, processes=1)
