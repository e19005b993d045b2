"""SIGINT and SIGTERM for the real command at random moments; then it goes on, until it is done."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

from _torture import command, subject
from _torture.ledger import Ledger, read_contents
from _torture.report import Report

TIMES = 20
IMAGES = 120
INTERRUPTED = 130
SECONDS = 10.0  # within which it must end
FIRST = 1.0  # seconds after its start before which nothing is sent: Python itself is not there yet
FLAGS = ("--quiet", "--shard-images", "5", "--batch", "2")


def torture(folder: Path, times: int, seed: int) -> Report:
    """Send `times` signals; the run is looked at after each, and gone on with."""
    report = Report("stop")
    rng = random.Random(seed)
    images = subject.pictures(folder / "images", IMAGES)
    reference = folder / "reference"
    began = time.monotonic()
    process = command.start(reference, [images], *FLAGS)
    _, said = process.communicate()
    length = time.monotonic() - began
    if not report.promise(process.returncode == 0, f"without any signal: {process.returncode} {said}"):
        return report
    wanted = read_contents(reference)
    report.fact(f"{IMAGES} images in shards of 5; an uninterrupted `fastxai explain` takes {length:.1f} s")
    sent, slowest = 0, 0.0
    for number in range(3 * times):
        if sent >= times:
            break
        ledger = Ledger(wanted)
        out = command.begin(folder / f"run{number}", reference)
        while True:
            which = rng.choice((signal.SIGINT, signal.SIGTERM))
            delay = rng.uniform(FIRST, length) if sent < times else None
            process = command.start(out, [images], *FLAGS, "--resume")
            seconds, said = _stop(process, which, delay)
            late = -process.returncode == which and read_contents(out).keys() == wanted.keys()
            if process.returncode == 0 or late:
                report.count("signals that met a process which had committed everything and was on its way out", late)
                report.take(ledger.finished(out), f"run {number}, done")
                break
            sent += 1
            slowest = max(slowest, seconds)
            before = len(ledger.seen)
            where = f"run {number}, {which.name} after {delay or 0:.1f} s"
            report.promise(process.returncode == INTERRUPTED, f"{where}: exit status {process.returncode}: {said}")
            report.promise(seconds < SECONDS, f"{where}: it took {seconds:.1f} s to end")
            report.take(ledger.look(out), where)
            new = len(ledger.seen) > before
            one_line = said.count("\n") == 1 and ("--resume" in said or not new)
            report.promise(one_line, f"{where}: it said {said!r}")
            report.count(f"{which.name} sent")
            report.count("of them to a command that has committed something since it started", new)
        report.count("runs gone on with until they were done")
        report.count("explanations compared, bit for bit", ledger.checked)
        shutil.rmtree(out)
    report.fact(f"the slowest end came {slowest:.2f} s after the signal")
    report.promise(sent >= times, f"only {sent} of {times} signals came before the end of the run")
    return report


def _stop(process: subprocess.Popen[str], which: signal.Signals, delay: float | None) -> tuple[float, str]:
    """Send a signal after `delay` seconds, or none; seconds from the signal to the end, and what was said."""
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        process.send_signal(which)
    began = time.monotonic()
    out, errors = process.communicate()
    return time.monotonic() - began, out + errors
