"""What one picture may cost."""

from __future__ import annotations

from dataclasses import dataclass

from fastxai.config import check_float, check_int

MAX_PIXELS = 100_000_000
_CLOCK = 10  # seconds by the clock for each of processor time


@dataclass(frozen=True)
class DecodeLimits:
    """What decoding one picture may cost; a picture that costs more is one failed image.

    seconds: of processor time, so that a busy machine does not fail a picture that an idle one reads; a decoder that
    hangs without computing gets ten times as many by the clock. pixels: width times height. memory: bytes of address
    space of a decoder process, its own 0.13 GB, the file and every copy on the way included: pictures of 100 megapixels
    were seen to take 0.6 GB (GIF) to 2.1 GB (WebP with opacity), by kind.
    """

    seconds: float = 30.0
    pixels: int = MAX_PIXELS
    memory: int = 4 << 30

    def __post_init__(self) -> None:
        check_float("seconds", self.seconds, 0, above=True, high=86_400)
        check_int("pixels", self.pixels, 1)
        check_int("memory", self.memory, 256 << 20)

    @property
    def clock(self) -> float:
        """Seconds by the clock after which a decoder hangs, whether it computes or not."""
        return self.seconds * _CLOCK


LIMITS = DecodeLimits()
