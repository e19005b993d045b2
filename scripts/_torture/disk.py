"""A disk that is full, broken or read-only at the k-th operation, for every k; and a real one that is too small."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from _torture import tmpfs
from _torture.faults import Failing
from _torture.processes import Child, Ending
from _torture.reference import Reference, make_reference
from _torture.report import Report

TIMES = 1000  # operations at most
FAULTS = ((errno.ENOSPC, True), (errno.EIO, False), (errno.EROFS, True))
IMAGES = 2
ROOM = 1 << 16  # KiB, more than any run here takes


def torture(folder: Path, times: int, seed: int) -> Report:
    """Let the k-th operation fail for k = 1, 2, ..., `times` of them evenly over a run of that many."""
    report = Report("disk")
    reference = make_reference(folder, IMAGES, shard_images=1, batch=1)
    total = sum(reference.operations.values())
    report.fact(f"{IMAGES} images, a shard each: an untouched run makes {total} operations on the disk")
    numbers = range(1, total + 1) if times >= total else sorted({1 + k * total // times for k in range(times)})
    for code, lasting in FAULTS:
        for first in numbers:
            _fail_once(report, reference, folder / "run", Failing(first, code, lasting))
    name = errno.errorcode[errno.ENOSPC]
    beyond = reference.explain(folder / "run", Failing(2 * total, errno.ENOSPC, True))
    report.promise(beyond.fine, f"{name} at an operation that is never reached: the run ended with {beyond}")
    shutil.rmtree(folder / "run")
    _real_disk(report, reference, folder, step=8 if times >= 20 else 32)
    return report


def _fail_once(report: Report, reference: Reference, out: Path, disk: Failing) -> None:
    where = f"{errno.errorcode[disk.code]} at operation {disk.first}{' and all later ones' if disk.lasting else ''}"
    ending = reference.explain(out, disk)
    ledger = reference.ledger()
    if ending.fine:
        report.count("faults that a run got over (or did not meet)")
        report.take(ledger.finished(out), where)
    else:
        report.count(f"runs ended by {errno.errorcode[disk.code]} in one line")
        report.promise(clean(ending), f"{where}: it ended with {ending}")
        report.take(ledger.look(out), where)
        again = reference.explain(out)
        report.promise(again.fine, f"{where}: with room again it ended with {again}")
        report.take(ledger.finished(out), f"{where}, gone on with")
    report.count("committed explanations compared, bit for bit", ledger.checked)
    shutil.rmtree(out, ignore_errors=True)


def clean(ending: Ending) -> bool:
    """Whether a run ended in one line that says what is wrong, as the command would print it."""
    return ending.error == "CannotRun" and bool(ending.text) and "\n" not in ending.text


def _real_disk(report: Report, reference: Reference, folder: Path, step: int) -> None:
    """Disks of memory of `step`, 2 `step`, ... KiB until one is large enough, mounted for a child alone."""
    place = folder / "tmpfs"
    place.mkdir()
    ending = Child(lambda: _on_tmpfs(reference, place, step)).wait()
    if not ending.fine:
        report.fact(f"a real full disk was not tried: {ending.text}")
        if ending.error != "CannotMount":
            report.promise(False, f"the real full disk: {ending}")
        return
    for text in ending.value["broken"]:
        report.promise(False, f"tmpfs: {text}")
    report.fact(f"a real disk (tmpfs) of {', '.join(ending.value['sizes'])} KiB: full each time, then given more room")
    report.count("runs ended by a real full disk in one line", ending.value["full"])


def _on_tmpfs(reference: Reference, place: Path, step: int) -> dict[str, object]:
    tmpfs.mount(place)
    broken: list[str] = []
    sizes: list[str] = []
    full = 0
    for size in range(step, ROOM, step):
        tmpfs.resize(place, size)
        out, ledger = place / "run", reference.ledger()
        ending = reference.explain(out)
        if ending.fine:
            break
        full += 1
        sizes.append(str(size))
        if not clean(ending) or "No space left" not in ending.text:
            broken.append(f"with {size} KiB it ended with {ending}")
        broken += [f"with {size} KiB: {what}" for what in ledger.look(out)]
        tmpfs.resize(place, ROOM)
        again = reference.explain(out)
        if not again.fine:
            broken.append(f"with room after {size} KiB it ended with {again}")
        broken += [f"with room after {size} KiB: {what}" for what in ledger.finished(out)]
        shutil.rmtree(out)
    return {"full": full, "sizes": sizes, "broken": broken}
