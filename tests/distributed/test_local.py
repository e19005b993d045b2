"""Workers that are processes of this machine: same rows, restarts, stops, and no survivors."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import fastxai as fx
from fastxai.distributed.local import visible_gpus

Command = Callable[..., "subprocess.Popen[str]"]
SLOW = {"TINY_SLEEP": "0.5"}


def wait_for(what: Callable[[], object], seconds: float = 120.0) -> None:
    late = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < late
        time.sleep(0.05)


def shards(run: str = "run") -> list[Path]:
    return sorted(Path(run, "shards").glob("*.h5"))


def workers_of(parent: int) -> list[int]:
    """The pids of a process's children that are workers."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            status = (entry / "status").read_text()
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if re.search(rf"^PPid:\s+{parent}$", status, re.MULTILINE) and b"worker" in words:
            found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_two_workers_write_the_rows_of_one(place, command: Command, alone, same, lime) -> None:
    process = command("--workers", "2", "-e", lime)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, err  # one picture is broken
    assert "14 images in" in out
    assert "broken.png" in out
    assert "14/14 images (1 failed)" in err.splitlines()[-1]
    assert {shard.name.split("-")[1] for shard in shards()} == {"0of2", "1of2"}
    assert fx.open_run("run").manifest.settings.threads == max(1, torch.get_num_threads() // 2)
    same(alone())


def test_workers_that_died_are_started_again(place, command: Command, alone, same) -> None:
    Path("kill").touch()
    Path("lose").touch()
    process = command("--workers", "2", "--json", TINY_SLEEP="0.2")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 3, err
    assert Path("kill-done").exists()
    assert Path("lose-done").exists()
    summary = json.loads(out)
    assert (summary["images"], summary["failed"], summary["skipped"]) == (14, 1, 0)
    same(alone())


def test_a_signal_stops_all_workers_and_a_resume_goes_on(place, command: Command, alone, same) -> None:
    process = command("--workers", "2", **SLOW)
    wait_for(lambda: len(shards()) > 0)
    left = workers_of(process.pid)
    assert len(left) == 2
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - asked < 10
    assert "--resume" in err.splitlines()[-1]
    assert not any(alive(pid) for pid in left)
    kept = len(fx.open_run("run"))
    assert 0 < kept < 14
    again = command("--workers", "1", "--resume")  # another share, same rows
    out, err = again.communicate(timeout=120)
    assert again.returncode == 3, err
    assert f"14 images, {kept} of them from before" in out
    same(alone())


def test_nothing_survives_a_killed_parent(place, command: Command) -> None:
    process = command("--workers", "2", **SLOW)
    wait_for(lambda: len(shards()) > 0)
    left = workers_of(process.pid)
    assert len(left) == 2
    process.kill()
    wait_for(lambda: not any(alive(pid) for pid in left), 15)
    assert 0 < len(fx.open_run("run")) < 14


def test_what_one_worker_cannot_do_ends_the_run_in_one_line(place, command: Command) -> None:
    process = command("--workers", "2", "--targets", "7")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.splitlines()[-1].startswith("fastxai: targets must be between 0 and 5")
    assert shards() == []


def test_gpus_go_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert visible_gpus({}) == ("0", "1")
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "3, GPU-8a"}) == ("3", "GPU-8a")
