"""What a benchmark is asked to do, as checked data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fastxai.bench.peers import PEERS
from fastxai.config import check_choice, check_float, check_int
from fastxai.errors import ArgumentError


@dataclass(frozen=True)
class Options:
    """How a benchmark measures; what it measures are its cases.

    images: pictures a measured stream, beside one batch that fills the pipeline; None: 16, and 64 for methods without
    rows of their own. repeat: rounds, in each of which everything measured takes its turn. peers: names of packages to
    compare with. peer_seconds: in one turn a peer explains pictures until it has taken so long, at least one and at
    most `images`. limit_seconds: the same for the limit's passes, twice a round; each form of the model that is tried
    for it gets as long, and a second at most. compared: pictures whose results are compared. run_images: length of the
    run that calibration is asked to settle for. batch: pictures at a time, None: as a run has it. seed: of everything
    random.
    """

    images: int | None = None
    repeat: int = 3
    peers: tuple[str, ...] = tuple(PEERS)
    peer_seconds: float = 20.0
    limit_seconds: float = 3.0
    compared: int = 2
    run_images: int = 1000
    batch: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("images", 1), ("batch", 1)):
            if getattr(self, name) is not None:
                check_int(name, getattr(self, name), low)
        for name in ("repeat", "compared", "run_images"):
            check_int(name, getattr(self, name), 1)
        check_float("peer_seconds", self.peer_seconds, 0)
        check_float("limit_seconds", self.limit_seconds, 0)
        check_int("seed", self.seed, 0, 2**32 - 2)  # one more is drawn from too
        for peer in self.peers:
            check_choice("peers", peer, tuple(PEERS))
        if len(set(self.peers)) != len(self.peers):
            raise ArgumentError(f"peers must be different ones, got {', '.join(self.peers)}")

    def to_dict(self) -> dict[str, Any]:
        """The options as plain JSON data."""
        return {**asdict(self), "peers": list(self.peers)}
