"""Runs killed at random moments and at every operation on the disk, then gone on with until they are done."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter, deque
from pathlib import Path

from _torture.faults import STEPS, Killing
from _torture.ledger import Ledger
from _torture.processes import Ending, survivors
from _torture.reference import Reference, make_reference
from _torture.report import Report

TIMES = 200
IMAGES = 24


def torture(folder: Path, times: int, seed: int) -> Report:
    """Kill `times` times, every other time at a step; every run is looked at after each kill, and when it is done."""
    report = Report("kill")
    rng = random.Random(seed)
    reference = make_reference(folder, IMAGES)
    report.fact(f"{IMAGES} images in shards of 3; an uninterrupted run takes {reference.seconds:.2f} s")
    steps = deque(rng.sample(STEPS, len(STEPS)))
    struck: Counter[str] = Counter()
    looked = Ledger({})
    kills = 0
    for number in range(10 * times):
        if kills >= times:
            break
        out, ledger = folder / f"run{number}", reference.ledger()
        report.count("runs begun")
        while True:
            at_step = kills % 2 == 1 and kills < times
            if at_step:
                ending, before = _kill_at_step(reference, out, steps, struck, rng)
            else:
                ending, before = _kill_at_random(reference, out, rng if kills < times else None)
            if not _expected(report, ending, out):
                break
            if ending.fine:
                report.take(ledger.finished(out), f"run {number}, done")
                break
            kills += 1
            report.count("killed " + ("at a step of the store" if at_step else "at a random moment"))
            report.promise(not survivors(before), f"run {number}: processes outlive their killed parent")
            report.take(ledger.look(out), f"run {number}, kill {kills}")
        looked.shards += ledger.shards
        looked.checked += ledger.checked
        shutil.rmtree(out)
    report.fact(f"steps: {', '.join(f'{step} {count}' for step, count in sorted(struck.items()))}")
    never = [" ".join(step) for step in STEPS if " ".join(step) not in struck]
    report.fact(f"steps where none was killed: {', '.join(never) or 'none'}")
    report.count("shards opened and verified", looked.shards)
    report.count("committed explanations compared, bit for bit", looked.checked)
    report.promise(kills >= times, f"only {kills} of {times} kills hit: runs end before they are killed")
    return report


def _expected(report: Report, ending: Ending, out: Path) -> bool:
    killed = ending.signal == 9
    return report.promise(ending.fine or killed, f"{out.name} was not killed and ended with {ending}")


def _kill_at_random(reference: Reference, out: Path, rng: random.Random | None) -> tuple[Ending, frozenset[int]]:
    """SIGKILL after a part of the length of an uninterrupted run; without `rng` never."""
    child = reference.child(out)
    if rng is not None:
        end = time.monotonic() + rng.uniform(0, reference.seconds)
        while time.monotonic() < end and not child.ended():
            time.sleep(0.001)
        child.kill()
    return child.wait(), child.before


def _kill_at_step(
    reference: Reference, out: Path, steps: deque[tuple[str, str]], struck: Counter[str], rng: random.Random
) -> tuple[Ending, frozenset[int]]:
    """The process kills itself at the next step in turn, at one of its first times, so that a resumed run has it."""
    name, moment = steps[0]
    steps.rotate(-1)
    often = reference.operations.get(name, 0)
    first = " ".join((name, moment)) not in struck
    number = 1 if first else rng.randint(1, max(1, often // 2))
    child = reference.child(out, Killing(name, moment, number))
    ending = child.wait()
    if ending.signal:
        struck[" ".join((name, moment))] += 1
    return ending, child.before
