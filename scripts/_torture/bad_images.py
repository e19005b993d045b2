"""Hostile files between good pictures, through the real command: a reason each, and no good picture is harmed."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from _torture import command, hostile, subject
from _torture.ledger import Ledger, read_contents
from _torture.processes import tree_memory
from _torture.report import Report
from fastxai.store import open_run

TIMES = 100  # hostile files that are made where none are given
GOOD = 24
MEMORY = 4096.0  # MiB that the command and all its processes may take together
FAILED = 3  # exit status: finished, but some images failed


def torture(folder: Path, times: int, seed: int, hostile_folder: Path | None = None) -> Report:
    """Explain the good pictures alone, then mixed with the files of `hostile_folder`, with the same settings."""
    report = Report("bad-images")
    good = sorted(subject.pictures(folder / "all", GOOD).iterdir())
    if hostile_folder is None:
        bad = hostile.make(folder / "hostile", times, seed)
        report.fact(f"{len(bad)} hostile files, made here")
    else:
        bad = sorted(path.resolve() for path in hostile_folder.rglob("*") if not path.is_dir())
        report.fact(f"{len(bad)} hostile files of {hostile_folder}")
    mixed = list(good)
    for number, path in enumerate(bad):  # by their names between the good ones
        link = folder / "all" / f"{number % GOOD:04}-{number}{path.suffix}"
        link.symlink_to(path)
        mixed.append(link)
    alone = _explain(report, folder, "good", good, 0)
    if alone is None:
        return report
    out = _explain(report, folder, "mixed", mixed, None, command.begin(folder / "mixed", alone))
    if out is None:
        return report
    _compare(report, out, Ledger(read_contents(alone)), [f"all/{path.name}" for path in mixed[GOOD:]])
    return report


def _explain(
    report: Report, folder: Path, name: str, images: list[Path], status: int | None, out: Path | None = None
) -> Path | None:
    """Explain a list of images; None where the command did not end as it should."""
    listed = folder / f"{name}.txt"
    listed.write_text("".join(f"all/{path.name}\n" for path in images))
    flags = ["--quiet"] if out is None else ["--quiet", "--resume"]
    out = out or folder / name
    process = command.start(out, [listed], *flags)
    peak, said = _watch(process)
    report.fact(f"{name}: {len(images)} images, exit status {process.returncode}, peak {peak:.0f} MiB in all")
    report.promise(peak < MEMORY, f"{name}: {peak:.0f} MiB of memory, more than {MEMORY:.0f}")
    report.promise(not said, f"{name}: it printed {said!r}")
    wanted = status if status is not None else (FAILED if _failures(out) else 0)
    ended = report.promise(process.returncode == wanted, f"{name}: exit status {process.returncode}: {said}")
    return out if ended else None


def _failures(out: Path) -> dict[str, str]:
    with open_run(out) as run:
        return dict(run.failures)


def _watch(process: subprocess.Popen[str]) -> tuple[float, str]:
    """Peak resident memory in MiB of a process and all below it, and what it said, once it has ended.

    Pages that several processes share count in each of them: the true figure is lower.
    """
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, tree_memory(process.pid))
        time.sleep(0.02)
    out, errors = process.communicate()
    return peak, out + errors


def _compare(report: Report, out: Path, ledger: Ledger, bad: list[str]) -> None:
    """Good ones as they were, hostile ones explained or with a reason."""
    now = read_contents(out)
    with open_run(out) as run:
        failures = dict(run.failures)
        known = set(run.ids)
    harmed = [image for image, digest in ledger.wanted.items() if now.get(image) != digest]
    report.promise(not harmed, f"good images differ from a run without hostile ones: {', '.join(harmed[:5])}")
    report.count("good images, equal bit for bit to a run of them alone", len(ledger.wanted) - len(harmed))
    lost = [image for image in bad if image not in known]
    report.promise(not lost, f"hostile files without a row: {', '.join(lost[:5])}")
    wordless = [image for image in bad if image in failures and not failures[image].strip()]
    report.promise(not wordless, f"hostile files without a reason: {', '.join(wordless[:5])}")
    report.count("hostile files with a reason", len([image for image in bad if image in failures]))
    report.count("hostile files explained", len([image for image in bad if image in known and image not in failures]))
    longest = max(failures.values(), key=len, default="")
    report.promise("\n" not in "".join(failures.values()), "a reason has more than one line")
    report.fact(f"the longest reason: {longest[:150]}")
