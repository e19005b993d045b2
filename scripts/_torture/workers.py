"""The real command with many workers, one of which is killed, or whose parent is: the rows of one plain run."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from _torture import command, subject
from _torture.ledger import Ledger, read_contents
from _torture.processes import alive, descendants, survivors
from _torture.report import Report

TIMES = 2
IMAGES = 120
SHARES = 3
SIGKILLED = -signal.SIGKILL
PATIENCE = 15.0  # seconds for workers without a parent to commit what they have and end
FLAGS = ("--quiet", "--shard-images", "3", "--batch", "2")


def torture(folder: Path, times: int, seed: int) -> Report:
    """Each of the ways to share a run out, `times` times."""
    report = Report("workers")
    rng = random.Random(seed)
    images = subject.pictures(folder / "images", IMAGES)
    reference = folder / "reference"
    process = command.start(reference, [images], *FLAGS)
    _, said = process.communicate()
    if not report.promise(process.returncode == 0, f"one plain run: {process.returncode} {said}"):
        return report
    wanted = read_contents(reference)
    report.fact(f"{IMAGES} images, against one plain `fastxai explain` with {command.threads(reference)}")
    ways: dict[str, Callable[[Report, Path, Path, random.Random, Ledger], None]] = {
        "--shard 0/3, 1/3 and 2/3 at once": _shards,
        "--workers 2, a worker killed": _worker_killed,
        "--workers 2, the parent killed, gone on with": _parent_killed,
        "--ray with --workers 2, a worker killed": _ray_killed,
    }
    if importlib.util.find_spec("ray") is None:
        ways.popitem()
        report.fact("Ray is not installed: not tried")
    for number in range(times):
        for way, torment in ways.items():
            out, ledger = command.begin(folder / f"run{number}", reference), Ledger(wanted)
            torment(report, out, images, rng, ledger)
            report.take(ledger.finished(out), way)
            report.count(f"runs with {way}")
            report.count("explanations compared, bit for bit", ledger.checked)
            shutil.rmtree(out)
    return report


def _shards(report: Report, out: Path, images: Path, rng: random.Random, ledger: Ledger) -> None:
    order = rng.sample(range(SHARES), SHARES)
    processes = [command.start(out, [images], *FLAGS, "--shard", f"{share}/{SHARES}") for share in order]
    for share, process in zip(order, processes, strict=True):
        _, said = process.communicate()
        report.promise(process.returncode == 0, f"--shard {share}/{SHARES} ended with {process.returncode}: {said}")


def _worker_killed(report: Report, out: Path, images: Path, rng: random.Random, ledger: Ledger) -> None:
    _kill_one(report, out, images, rng, ["--workers", "2"], "fastxai\0worker")


def _ray_killed(report: Report, out: Path, images: Path, rng: random.Random, ledger: Ledger) -> None:
    _kill_one(report, out, images, rng, ["--workers", "2", "--ray=local"], "ray::")


def _kill_one(report: Report, out: Path, images: Path, rng: random.Random, flags: list[str], what: str) -> None:
    """SIGKILL for one process whose command line holds `what`, once shards appear; the command is to end well."""
    process = command.start(out, [images], *FLAGS, "--resume", *flags)
    _await_shards(process.poll, out, rng)
    victims = [member for member in descendants(process.pid) if what in _command_line(member)]
    if victims:
        os.kill(rng.choice(victims), signal.SIGKILL)
    _, said = process.communicate()
    where = " ".join(flags)
    report.promise(bool(victims), f"{where}: no worker was found to be killed")
    report.promise(process.returncode == 0, f"{where}, one killed: it ended with {process.returncode}: {said}")


def _parent_killed(report: Report, out: Path, images: Path, rng: random.Random, ledger: Ledger) -> None:
    before = alive(os.getpid())
    process = command.start(out, [images], *FLAGS, "--resume", "--workers", "2")
    _await_shards(process.poll, out, rng)
    process.kill()
    process.wait()
    left = survivors(before, PATIENCE)  # before its pipes are read to their end: workers may hold them
    process.communicate()
    report.promise(process.returncode == SIGKILLED, f"--workers 2 was not killed, but ended with {process.returncode}")
    report.promise(not left, f"--workers 2: {len(left)} processes outlive their killed parent")
    report.take(ledger.look(out), "--workers 2, the parent killed")
    process = command.start(out, [images], *FLAGS, "--resume", "--workers", "2")
    _, said = process.communicate()
    report.promise(process.returncode == 0, f"--workers 2, gone on with, ended with {process.returncode}: {said}")


def _await_shards(ended: Callable[[], int | None], out: Path, rng: random.Random) -> None:
    """Wait until two shards are there, and for a moment more."""
    while ended() is None and len(list(out.glob("shards/*.h5"))) < 2:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.5))


def _command_line(process: int) -> str:
    """Words with NUL between them; empty where the process is gone."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
