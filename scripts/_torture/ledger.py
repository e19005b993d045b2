"""What must never be lost: every explanation that was seen committed, by the sum of its bytes."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch

import fastxai as fx
from fastxai.errors import CannotRun
from fastxai.store import is_run, open_run, verify
from fastxai.store.guard import list_shards, open_shard, read_slice

Contents = dict[str, str]


def contents(run: fx.Run) -> Contents:
    """Image id -> BLAKE2b of everything that the run says of the image, bit for bit, dates aside."""
    if not len(run):
        return {}
    found = run.read()
    sums = {}
    for row, image in enumerate(found.ids):
        digest = hashlib.blake2b(repr((found.digests[row], found.errors[row])).encode(), digest_size=16)
        columns = [found.status, found.sizes, found.crops, found.labels, found.images]
        columns += [found.predictions, found.probabilities, found.targets]
        for column in columns:
            if column is not None:
                digest.update(_bytes(column[row]))
        for name, result in found.methods.items():
            count = None if result.counts is None else int(result.counts[row])
            dims = {field.name: field.dims for field in result.explainer.fields()}
            for key, values in sorted(result.data.items()):
                value = values[row]
                if "segment" in dims[key] and count is not None:  # padded to the longest that is read with it
                    value = value.narrow(dims[key].index("segment"), 0, min(count, value.shape[-1]))
                digest.update(f"{name}/{key}{tuple(value.shape)}".encode() + _bytes(value))
            if result.segments is not None:
                digest.update(_bytes(result.segments[row]))
        sums[image] = digest.hexdigest()
    return sums


def _bytes(value: torch.Tensor) -> bytes:
    return value.contiguous().numpy().tobytes()


def read_contents(out: Path) -> Contents:
    """The contents of the run in a folder; empty where none was begun."""
    if not is_run(out):
        return {}
    with open_run(out) as run:
        return contents(run)


def rows_in_shards(out: Path) -> Counter[str]:
    """How often each image id lies in the shards, each of which is opened."""
    with open_run(out) as run:
        digest = run.config.digest
    rows: Counter[str] = Counter()
    for shard in list_shards(out):
        with open_shard(shard.path, digest) as file:
            ids = file["entry/image/id"]
            rows.update(value.decode() for value in read_slice(ids, 0, len(ids)).tolist())
    return rows


@dataclass
class Ledger:
    """What was seen committed in one run; `wanted` is what an uninterrupted run said."""

    wanted: Contents
    seen: Contents = field(default_factory=dict)
    shards: int = 0  # looked at in all
    checked: int = 0  # explanations looked at in all

    def look(self, out: Path, *, repeats: bool = False) -> list[str]:
        """Open and verify the run as it is now; what was promised and does not hold. Remembers what is there.

        repeats: images may lie in several shards.
        """
        try:
            now = read_contents(out)
            problems = [f"verify: {problem}" for problem in (verify(out) if is_run(out) else [])]
            rows = rows_in_shards(out) if is_run(out) else Counter()
        except (CannotRun, ValueError, OSError, KeyError) as error:
            return [f"the run cannot be read: {type(error).__name__}: {error}"]
        lost = [image for image in self.seen if image not in now]
        changed = [image for image, digest in self.seen.items() if now.get(image, digest) != digest]
        other = [image for image, digest in now.items() if self.wanted.get(image) != digest]
        twice = [] if repeats else [image for image, times in rows.items() if times > 1]
        for images, what in (
            (lost, "committed explanations were lost"),
            (changed, "committed explanations changed"),
            (other, "explanations differ from those of an uninterrupted run"),
            (twice, "images were explained twice"),
        ):
            if images:
                problems.append(f"{len(images)} {what}: {', '.join(images[:3])}")
        self.seen |= now
        self.shards += len(list_shards(out)) if is_run(out) else 0
        self.checked += len(now)
        return problems

    def finished(self, out: Path) -> list[str]:
        """The same for a run that says it is done: nothing may be missing or left over."""
        problems = self.look(out)
        missing = [image for image in self.wanted if image not in self.seen]
        if missing:
            problems.append(f"{len(missing)} images are missing in a finished run: {', '.join(missing[:3])}")
        parts = [path.name for path in out.rglob("*.part")]
        if parts:
            problems.append(f"a finished run holds {', '.join(parts[:3])}")
        return problems
