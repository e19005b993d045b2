"""Two writers of one name, started together: one works, the other says one line and leaves everything as it is."""

from __future__ import annotations

import os
import random
import select
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from _torture import subject
from _torture.disk import clean
from _torture.processes import Child
from _torture.reference import Reference, make_reference
from _torture.report import Report

TIMES = 100
IMAGES = 6
PATIENCE = 60.0  # seconds for a writer to take its place or to leave


def torture(folder: Path, times: int, seed: int) -> Report:
    """Race `times` times, up to 20 ms apart, every third time for a run that was killed half-way."""
    report = Report("races")
    rng = random.Random(seed)
    reference = make_reference(folder, IMAGES, shard_images=2, batch=2)
    report.fact(f"two processes of the worker name '0' begin a run of {IMAGES} images, or go on with it, together")
    for number in range(times):
        out, ledger = folder / f"run{number}", reference.ledger()
        if number % 3 == 2:
            child = reference.child(out)
            time.sleep(rng.uniform(0.5, 1) * reference.seconds)
            child.kill()
            child.wait()
            report.take(ledger.look(out), f"race {number}, before")
        _race(report, reference, out, rng.uniform(0, 0.02), f"race {number}")
        report.take(ledger.finished(out), f"race {number}")
        report.count("explanations compared, bit for bit", ledger.checked)
        shutil.rmtree(out)
    return report


def _race(report: Report, reference: Reference, out: Path, apart: float, where: str) -> None:
    """The winner waits, its lock in hand, until the other has ended; what is promised is that one does."""
    at_work, has_begun = os.pipe()
    hold, go = os.pipe()

    def in_progress() -> None:
        os.write(has_begun, b"x")
        os.read(hold, 1)  # ends with the last writer of `go`

    children = []
    for _ in range(2):
        children.append(Child(lambda: _write(reference, out, in_progress, go)))
        time.sleep(apart)
    os.close(has_begun)
    waiting = set(range(2))
    end = time.monotonic() + PATIENCE
    while len(waiting) == 2 and time.monotonic() < end:
        waiting = {number for number in waiting if not children[number].ended()}
        time.sleep(0.002)
    begun = b""
    while select.select([at_work], [], [], 0)[0] and (said := os.read(at_work, 1)):
        begun += said
    os.close(go)  # whoever holds the lock goes on
    endings = [child.wait() for child in children]
    for pipe in (at_work, hold):
        os.close(pipe)
    report.promise(len(begun) <= 1, f"{where}: both were at work at once")
    lost = [ending for ending in endings if not ending.fine]
    report.count("races won by one, the other refused", len(lost) == 1)
    if report.promise(len(lost) == 1, f"{where}: the two ended with {endings[0]} and {endings[1]}"):
        (loser,) = lost
        report.promise(clean(loser) and "at work" in loser.text, f"{where}: the loser ended with {loser}")


def _write(reference: Reference, out: Path, in_progress: Callable[[], None], go: int) -> None:
    os.close(go)  # or this process would wait for itself
    begun = False

    def progress(_: object) -> None:
        nonlocal begun
        if not begun:
            begun = True
            in_progress()

    subject.explain(out, reference.images, **reference.options, progress=progress)
