"""Scales on which a game is smooth: between its scores as they are and their logits."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Warp:
    """t = log((p + e) / (1 + e - p)), for scores p in 0..1: with large e a straight line, with small e the logit.

    Segments act on a classifier's logits; their softmax is flat at both ends, which no covariance of p itself foretells
    (warped Gaussian processes: Snelson, Rasmussen and Ghahramani, 2004). e = inf is p as it is.
    """

    offset: float

    @property
    def straight(self) -> bool:
        """Whether scores stay as they are."""
        return math.isinf(self.offset)

    def __call__(self, scores: Tensor) -> Tensor:
        """t of p."""
        return scores if self.straight else ((scores + self.offset) / (1 + self.offset - scores)).log()

    def back(self, warped: Tensor) -> Tensor:
        """p of t."""
        return warped if self.straight else (1 + 2 * self.offset) * warped.sigmoid() - self.offset

    def volume(self, scores: Tensor) -> Tensor:
        """log dt/dp, summed over rows: [n, K] -> [K]. What makes likelihoods on two scales comparable."""
        if self.straight:
            return scores.new_zeros(scores.shape[1])
        return (1 / (scores + self.offset) + 1 / (1 + self.offset - scores)).log().sum(0)
