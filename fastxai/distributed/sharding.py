"""Sharing images out by a hash of their ids, so that N machines agree without talking."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastxai.errors import ArgumentError
from fastxai.models import Model
from fastxai.pipeline import run
from fastxai.store import Run


@dataclass(frozen=True)
class Share:
    """Part `index` of `count` parts of any source: 0/3, 1/3 and 2/3 hold every image once."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ArgumentError(f"shard must be i/N with i from 0 to N - 1, got {self}")

    @staticmethod
    def parse(text: str) -> Share:
        """Read "i/N"."""
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if match is None:
            raise ArgumentError(f"shard must be i/N with i from 0 to N - 1, got {text!r}")
        return Share(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def worker(self) -> str:
        """The name under which this share writes its shards."""
        return f"{self.index}of{self.count}"

    def holds(self, image_id: str) -> bool:
        """Whether the image with this id belongs to this share: by BLAKE2b of the id, never by its place."""
        hashed = hashlib.blake2b(image_id.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        return int.from_bytes(hashed, "little") % self.count == self.index


def run_share(
    model: Model, source: Any, explainers: Any, *, out: str | Path, share: Share | str, **options: Any
) -> Run:
    """`fastxai.run` for one share of the source, into a run that the other shares write too.

    Whichever worker comes first begins the run; the others use the settings recorded there. A share that was
    interrupted goes on where it stopped.
    """
    part = Share.parse(share) if isinstance(share, str) else share
    options = {"resume": True, **options}
    return run(model, source, explainers, out=out, worker=part.worker, take=part.holds, **options)
