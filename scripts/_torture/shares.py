"""Parts of a run explained by several processes, in any order or at once, give the rows of one plain run."""

from __future__ import annotations

import itertools
import random
import shutil
from pathlib import Path

from _torture import subject
from _torture.processes import Child
from _torture.reference import Reference, make_reference
from _torture.report import Report
from fastxai.distributed import run_share

TIMES = 12
IMAGES = 12
SHARES = 3


def torture(folder: Path, times: int, seed: int) -> Report:
    """Every order of the shares in turn, then all at once; `times` in all."""
    report = Report("shares")
    rng = random.Random(seed)
    reference = make_reference(folder, IMAGES)
    report.fact(f"{IMAGES} images in {SHARES} shares, against one plain run with the same settings")
    orders = list(itertools.permutations(range(SHARES)))
    rng.shuffle(orders)
    for number in range(times):
        out, order, together = folder / f"run{number}", orders[number % len(orders)], number % 2 == 1
        where = f"shares {order}{' at once' if together else ''}"
        _run(report, reference, out, order, together, where)
        ledger = reference.ledger()
        report.take(ledger.finished(out), where)
        report.count(f"runs by shares {'at once' if together else 'one after another'}")
        report.count("explanations equal, bit for bit", ledger.checked)
        shutil.rmtree(out, ignore_errors=True)
    return report


def _run(report: Report, reference: Reference, out: Path, order: tuple[int, ...], together: bool, where: str) -> None:
    children = []
    for share in order:
        child = Child(lambda share=share: _explain(reference, out, share))  # type: ignore[misc]
        children.append(child)
        if not together:
            report.promise((ending := child.wait()).fine, f"{where}: {share} ended with {ending}")
    if together:
        for share, child in zip(order, children, strict=True):
            report.promise((ending := child.wait()).fine, f"{where}: {share} ended with {ending}")


def _explain(reference: Reference, out: Path, share: int) -> None:
    run_share(
        subject.model(),
        reference.images,
        subject.METHODS,
        out=out,
        share=f"{share}/{SHARES}",
        settings=subject.SETTINGS,
        shard_images=3,
        batch=3,
    )
