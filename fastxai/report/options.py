"""How a report is made, as data."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastxai.config import check_int
from fastxai.report.comparison import Comparison


@dataclass(frozen=True)
class ReportOptions:
    """How a report is made.

    max_size: bytes of the file at most; pictures and maps are kept as finely as fits, and the page says what was left
    out. target: which of the K explained classes is shown. compare: the two methods that the page starts with, and the
    rules by which maps become masks. title: instead of the run's name.
    """

    max_size: int = 200_000_000
    target: int = 0
    compare: Comparison = field(default_factory=Comparison)
    title: str = ""

    def __post_init__(self) -> None:
        check_int("max_size", self.max_size, 1)
        check_int("target", self.target, 0)
