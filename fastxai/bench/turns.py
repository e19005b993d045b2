"""Taking turns: everything that is compared is measured round after round, one after the other."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Turn = Callable[[], float]  # does its work and returns seconds an image, as it measured them itself
OnTurn = Callable[[int, str, float], None]  # round, name, seconds an image
_OURS = ("fastxai", "fastxai in memory", "limit", "arithmetic")  # turns that must not fail


@dataclass(frozen=True)
class Times:
    """Seconds an image, one figure a turn; `seconds` is their median."""

    turns: tuple[float, ...]

    @property
    def seconds(self) -> float:
        return statistics.median(self.turns)


def take_turns(
    turns: Sequence[tuple[str, Turn]], rounds: int, on_turn: OnTurn = lambda number, name, seconds: None
) -> tuple[dict[str, Times], dict[str, str]]:
    """Every turn in order, `rounds` times: times by name, and the reasons of those that could not.

    A name may stand several times in `turns`: its figures are pooled. One whose turn raises an exception has no times
    and no more turns; those of fastxai itself, its limit and the arithmetic raise.
    """
    found: dict[str, list[float]] = {name: [] for name, _ in turns}
    failed: dict[str, str] = {}
    for number in range(rounds):
        for name, turn in turns:
            if name in failed:
                continue
            try:
                found[name].append(turn())
            except Exception as error:  # a peer is somebody else's code: its trouble ends its own turns only
                if name in _OURS:
                    raise
                failed[name] = describe_error(error)
                continue
            on_turn(number, name, found[name][-1])
    return {name: Times(tuple(times)) for name, times in found.items() if name not in failed}, failed


def describe_error(error: BaseException) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
