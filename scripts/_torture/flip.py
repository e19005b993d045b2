"""Single bytes changed in a finished run, anywhere in shards, index.h5 or run.json: verify finds each of them."""

from __future__ import annotations

import random
from pathlib import Path

from _torture.ledger import read_contents
from _torture.processes import Child
from _torture.reference import make_reference
from _torture.report import Report
from fastxai.errors import CannotRun
from fastxai.store import build_index, verify

TIMES = 200
IMAGES = 12


def torture(folder: Path, times: int, seed: int) -> Report:
    """Flip `times` bytes of shards, one of each shard at a time, then as many of index.h5 and of run.json."""
    report = Report("flip")
    rng = random.Random(seed)
    large = make_reference(folder / "large", IMAGES)
    _flip_shards(report, folder / "large" / "reference", times, rng)
    # the others byte by byte, in a run of one shard, which takes less time to verify
    small = make_reference(folder / "small", 3)
    run = folder / "small" / "reference"
    build_index(run)
    for name in ("index.h5", "run.json"):
        _flip_one_by_one(report, run, name, times, rng)
    same = read_contents(folder / "large" / "reference") == large.contents and read_contents(run) == small.contents
    report.promise(same, "put back as they were, the runs differ from what they were")
    report.fact("not covered: the lock files of a run, which are empty")
    return report


def flip(path: Path, rng: random.Random) -> tuple[bytes, int]:
    """Change one byte of a file to any other value; what the file was, and where it was changed."""
    good = path.read_bytes()
    place = rng.randrange(len(good))
    bad = bytearray(good)
    bad[place] ^= rng.randrange(1, 256)
    path.write_bytes(bad)
    return good, place


def _flip_shards(report: Report, run: Path, times: int, rng: random.Random) -> None:
    shards = sorted(run.glob("shards/*.h5"))
    report.fact(f"{len(shards)} shards of {sum(shard.stat().st_size for shard in shards)} bytes")
    report.take([str(problem) for problem in verify(run)], "verify of an untouched run")
    left = times
    while left:
        chosen = rng.sample(shards, min(left, len(shards)))
        left -= len(chosen)
        was = {shard: flip(shard, rng) for shard in chosen}
        named = _named(report, run)
        for shard, (good, place) in was.items():
            found = f"shards/{shard.name}" in named
            report.count("bytes of shards flipped and found by verify", found)
            report.promise(found, f"{shard.name}: a flip of byte {place} of {len(good)} was not found")
            shard.write_bytes(good)
        untouched = named - {f"shards/{shard.name}" for shard in chosen}
        report.promise(not untouched, f"verify names {untouched}, which nobody touched")


def _flip_one_by_one(report: Report, run: Path, name: str, times: int, rng: random.Random) -> None:
    path = run / name
    report.take([str(problem) for problem in verify(run)], f"verify of an untouched run with {name}")
    for _ in range(times):
        good, place = flip(path, rng)
        named = _named(report, run, f"{name}, byte {place}: ")
        path.write_bytes(good)
        report.count(f"bytes of {name} flipped and found by verify", bool(named))
        report.promise(bool(named), f"{name}: a flip of byte {place} of {len(good)} was not found")


def _named(report: Report, run: Path, where: str = "") -> set[str]:
    """The files that verify names; run.json where it refuses the run in one line.

    Where HDF5 crashes on what it reads, verify is asked again with a process for it to crash, as the command does.
    """
    ending = Child(lambda: _verify(run, 0)).wait()
    if ending.signal:
        report.count("times that HDF5 crashed on a changed file")
        ending = Child(lambda: _verify(run, 1)).wait()
    return set(ending.value) if report.promise(ending.fine, f"{where}verify ended with {ending}") else set()


def _verify(run: Path, processes: int) -> list[str]:
    try:
        return [problem.file for problem in verify(run, processes=processes)]
    except (CannotRun, ValueError) as error:
        return ["run.json"] if "\n" not in str(error) else []
