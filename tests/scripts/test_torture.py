"""scripts/torture: every part a few times on real runs; and its checks say so where a promise breaks."""

from __future__ import annotations

import errno
import importlib.machinery
import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from fastxai.errors import CannotRun
from fastxai.store import files

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
FORKED = "kill,disk,flip,races,shares"  # parts that fork this process: in one of their own

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are read from /proc")


@pytest.fixture(autouse=True)
def torture_modules(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # no cache folder in scripts/


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of 6 images in 2 shards, which tests copy before they damage it."""
    sys.path.insert(0, str(SCRIPTS))
    from _torture import subject

    folder = tmp_path_factory.mktemp("torture")
    subject.explain(folder / "run", subject.pictures(folder / "images", 6))
    return folder


@pytest.fixture
def run(finished, tmp_path):
    import shutil

    shutil.copytree(finished / "run", tmp_path / "run")
    return tmp_path / "run"


def test_parts_that_fork_keep_every_promise():
    command = [sys.executable, SCRIPTS / "torture", FORKED, "--times", "2", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("every promise was kept") == len(FORKED.split(","))
    for counted in (
        "1 killed at a random moment",
        "1 killed at a step of the store",
        "2 runs ended by ENOSPC in one line",
        "2 bytes of shards flipped and found by verify",
        "2 bytes of run.json flipped and found by verify",
        "2 races won by one, the other refused",
        "1 runs by shares one after another",
        "1 runs by shares at once",
    ):
        assert f" {counted}\n" in done.stdout, done.stdout


def test_hostile_files_between_good_ones(tmp_path, monkeypatch):
    from _torture import bad_images

    monkeypatch.setattr(bad_images, "GOOD", 4)
    report = bad_images.torture(tmp_path, 12, 0)
    assert report.broken == []
    assert report.counts["good images, equal bit for bit to a run of them alone"] == 4
    assert report.counts["hostile files with a reason"] >= 9  # all but what was cut off or changed harmlessly


def test_a_stopped_command_goes_on(tmp_path, monkeypatch):
    from _torture import stop

    monkeypatch.setattr(stop, "IMAGES", 8)
    report = stop.torture(tmp_path, 1, 0)
    assert report.broken == []
    assert report.counts["SIGINT sent"] + report.counts["SIGTERM sent"] == 1


@pytest.mark.parametrize("part", ["nothing", "kill,nothing", ""])
def test_unknown_parts_are_refused(part):
    done = subprocess.run([sys.executable, SCRIPTS / "torture", part], capture_output=True, text=True)
    assert done.returncode == 2
    assert "part must be of kill, disk, flip" in done.stderr


def test_the_exit_status_tells_of_broken_promises(capsys):
    from _torture.report import Report

    loader = importlib.machinery.SourceFileLoader("torture_script", str(SCRIPTS / "torture"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("torture_script", loader))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", dict(os.environ))  # the script prepares its own process
        patch.setattr(sys, "path", list(sys.path))
        loader.exec_module(module)
    kept, broken = Report("kept"), Report("broken")
    assert kept.promise(True, "fine") and not broken.promise(False, "an image was lost")
    assert module.conclude([kept]) == 0
    assert module.conclude([kept, broken]) == 1
    broken.print_it()
    assert "BROKEN: an image was lost" in capsys.readouterr().out


def test_the_ledger_finds_what_is_lost_changed_or_left_over(run):
    from _torture.ledger import Ledger, read_contents

    ledger = Ledger(read_contents(run))
    assert len(ledger.wanted) == 6
    assert ledger.finished(run) == []
    (run / "shards" / "part-0-00007.h5.part").write_bytes(b"")
    assert any("holds part-0-00007.h5.part" in what for what in ledger.finished(run))
    (run / "shards" / "part-0-00001.h5").unlink()
    found = ledger.finished(run)
    assert any(what.startswith("3 committed explanations were lost: ") for what in found)
    assert any("images are missing in a finished run" in what for what in Ledger(ledger.wanted).finished(run))
    ledger.seen = dict.fromkeys(ledger.seen, "other")
    assert any("3 committed explanations changed: " in what for what in ledger.look(run))
    assert any("differ from those of an uninterrupted run" in what for what in Ledger({}).look(run))
    shard = run / "shards" / "part-0-00000.h5"
    shard.write_bytes(shard.read_bytes()[:-100])
    assert ledger.look(run) != []


def test_flips_that_verify_does_not_find_are_broken_promises(run, monkeypatch):
    from _torture import flip
    from _torture.report import Report

    monkeypatch.setattr(flip, "verify", lambda _: [])
    monkeypatch.setattr(flip, "_named", lambda *_: set())
    report = Report("flip")
    flip._flip_shards(report, run, 2, random.Random(0))
    assert len(report.broken) == 2
    assert "a flip of byte" in report.broken[0]


@pytest.mark.parametrize(("code", "lasting"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_a_disk_that_fails_is_met(finished, tmp_path, monkeypatch, code, lasting):
    from _torture import subject
    from _torture.disk import clean
    from _torture.faults import OPERATIONS, Failing, Watched
    from _torture.processes import Ending

    assert {"open", "write", "fsync", "rename", "sync_folder"} <= set(OPERATIONS)
    counting = Watched()
    monkeypatch.setattr(files, "disk", counting)
    subject.explain(tmp_path / "whole", finished / "images")
    assert counting.total == sum(counting.counts.values()) > 100
    assert counting.counts["rename"] == 3  # run.json and two shards
    failing = Failing(counting.total // 2, code, lasting)
    monkeypatch.setattr(files, "disk", failing)
    with pytest.raises(CannotRun) as met:
        subject.explain(tmp_path / "struck", finished / "images")
    assert failing.struck
    assert clean(Ending(error=type(met.value).__name__, text=str(met.value)))
    assert not clean(Ending(error="OSError", text="No space left on device"))
    assert not clean(Ending(error="CannotRun", text="two\nlines"))


def test_processes_that_outlive_their_parent_are_found():
    from _torture import processes

    before = processes.alive(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as left:
        assert processes.survivors(before, 0.1) == [left.pid]
        assert processes.tree_memory(os.getpid()) > processes.tree_memory(left.pid) > 1
        left.communicate(b"\n")
    assert processes.survivors(before) == []
