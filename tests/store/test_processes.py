"""Real processes: several that want to be one worker, and one that is killed at every step of a commit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastxai.explainers import GradCam
from fastxai.store import open_run, verify

# Forks before torch has started threads, so that one start of Python serves every race and every kill.
PROGRAM = """
import json, os, signal, sys
from pathlib import Path
sys.path[:] = json.loads(sys.argv[1])
from fastxai.errors import CannotRun
from fastxai.explainers import GradCam
from fastxai.store import ShardWriter, files
from tests.store.conftest import Maker

folder = Path(sys.argv[3])
make = Maker(folder.parent, (GradCam(),))
config = make.config()

def race(number):
    "Two processes open one worker's writer at once; the winner keeps it until both have tried."
    gate, results, done = os.pipe(), os.pipe(), os.pipe()
    for me in range(2):
        if os.fork() == 0:
            os.close(gate[1]), os.close(done[1])
            os.read(gate[0], 1)  # ends when the parent closes the gate
            try:
                with ShardWriter(folder, config, threads=1) as writer:
                    os.write(results[1], b"won\\n")
                    os.read(done[0], 1)
                    writer.append(make.batch([f"{number}.png"]))
            except CannotRun as error:
                os.write(results[1], b"refused\\n" if "at work" in str(error) else str(error).encode() + b"\\n")
            os._exit(0)
    os.close(gate[1]), os.close(results[1])
    with os.fdopen(results[0]) as lines:
        found = sorted(lines.readline().strip() for _ in range(2))
        os.close(done[1])
        statuses = [os.wait()[1] for _ in range(2)]
    os.close(gate[0]), os.close(done[0])
    return [*found, *statuses]

def kill(step, when):
    "One process that is killed before or after the operation `step` of its second commit."
    child = os.fork()
    if child == 0:
        real, armed = getattr(files.disk, step), []
        def fatal(*args):
            if armed and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            found = real(*args)
            if armed:
                os.kill(os.getpid(), signal.SIGKILL)
            return found
        setattr(files.disk, step, fatal)
        writer = ShardWriter(folder, config, shard_images=1, threads=1)
        writer.append(make.batch([f"{step}-{when}-committed"]))
        armed.append(True)
        writer.append(make.batch([f"{step}-{when}-killed"]))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.wait()[1])

for line in json.loads(sys.argv[2]):
    print(json.dumps(race(*line[1:]) if line[0] == "race" else kill(*line[1:])), flush=True)
"""

STEPS = ("read", "open", "write", "fsync", "close", "rename", "sync_folder", "truncate")


@pytest.fixture
def small(make: Any) -> Any:
    make.explainers = (GradCam(),)
    return make


def drive(folder: Path, work: list[list[Any]]) -> list[Any]:
    argv = [sys.executable, "-c", PROGRAM, json.dumps(["", *sys.path]), json.dumps(work), str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_of_two_writers_of_one_name_one_wins(small: Any, store_races: int) -> None:
    folder, _ = small.begin()
    found = drive(folder, [["race", number] for number in range(store_races)])
    assert found == [["refused", "won", 0, 0]] * store_races
    assert open_run(folder).ids == tuple(f"{number}.png" for number in range(store_races))
    assert verify(folder) == []


def test_a_process_killed_at_every_step_of_a_commit(small: Any) -> None:
    folder, config = small.begin()
    work = [["kill", step, when] for step in STEPS for when in ("before", "after")]
    assert drive(folder, work) == [-9] * len(work)
    ids = set(open_run(folder).ids)
    committed = {("rename", "after"), ("sync_folder", "before"), ("sync_folder", "after")}
    committed |= {("truncate", "before"), ("truncate", "after")}
    for _, step, when in work:
        assert f"{step}-{when}-committed" in ids
        assert (f"{step}-{when}-killed" in ids) == ((step, when) in committed), (step, when)
    with small.writer(folder, config):  # the lock went with the process
        assert not list((folder / "shards").glob("*.part"))
    assert verify(folder) == []
