"""What a part tried, counted, and every promise that broke."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field

SHOWN = 20  # broken promises that are printed


@dataclass
class Report:
    """Counts and broken promises of one part; `print_it` says all of it."""

    part: str
    facts: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def count(self, what: str, times: int = 1) -> None:
        """Add to a count; a count of 0 is printed too once it was named."""
        self.counts[what] += times

    def fact(self, text: str) -> None:
        """A line to print."""
        self.facts.append(text)

    def promise(self, held: bool, otherwise: str) -> bool:
        """Keep `otherwise` as a broken promise unless it held; returns whether it did."""
        if not held:
            self.broken.append(otherwise)
        return held

    def take(self, broken: list[str], where: str) -> None:
        """Broken promises that a check found, with the circumstances."""
        self.broken += [f"{where}: {what}" for what in broken]

    def print_it(self) -> None:
        """Everything, for people and for a log."""
        print(f"\n{self.part}: {time.monotonic() - self.began:.1f} s")
        for text in self.facts:
            print(f"  {text}")
        for what, times in self.counts.items():
            print(f"  {times:7} {what}")
        if not self.broken:
            print("  every promise was kept")
        for what in self.broken[:SHOWN]:
            print(f"  BROKEN: {what}")
        if len(self.broken) > SHOWN:
            print(f"  BROKEN: and {len(self.broken) - SHOWN} more")
        sys.stdout.flush()
