"""Coalitions that stand for all of them, for games whose report has no closed form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from fastxai.solve.kernels import cosine_kernel

ROWS = 1 << 15  # drawn, where there are more coalitions than that; what the draw misses is counted in the variance
_SEED = 0
_TINY = torch.finfo(torch.float64).tiny
_KEPT = 8  # samples in memory, some 15 MB each


@dataclass(frozen=True)
class Sample:
    """Coalitions of S segments, the same for every game: all there are, or a draw of pairs z, 1 - z.

    signs [m, S]: 1 where a segment is kept, -1 where it is hidden; float64 where they are all, float32 of a draw, pair
    after pair. estimator float64 [S, m]: times a game's values there, its report, without error for additive games, and
    for any game where the coalitions are all. shares float64 [m]: of a coalition in the game's weighted mean.
    """

    signs: Tensor
    estimator: Tensor
    shares: Tensor

    @property
    def all(self) -> bool:
        """Whether no coalition is missing."""
        return len(self.signs) == 2 ** self.signs.shape[1]

    def report(self, game: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of values float64 [m, K]: the report [K, S], the variance that a draw gives it [K, S], the mean [K]."""
        report, mean = (self.estimator @ game).T, self.shares @ game
        if self.all:
            return report, torch.zeros_like(report), mean
        along = (self.signs @ (report.T / 2).to(self.signs.dtype)).double()
        variance = []
        for left in (game - along).T:
            pairs = _in_pairs(self.estimator * left)  # independent of one another
            variance.append((pairs**2).sum(1) - (pairs * self.constant).sum(1) ** 2)
        return report, torch.stack(variance).clamp_min(0), mean

    @cached_property
    def constant(self) -> Tensor:
        """What pairs say of a constant, [S, m / 2], of length 1: it does not count, and is left out of the variance."""
        found = _in_pairs(self.estimator)
        return found / found.norm(dim=1, keepdim=True).clamp_min(_TINY)

    def to(self, device: torch.device) -> Sample:
        """The same on another device."""
        return Sample(self.signs.to(device), self.estimator.to(device), self.shares.to(device))


@lru_cache(maxsize=_KEPT)
def lime_sample(segments: int, kernel_width: float, device: torch.device) -> Sample:
    """Fair draws in pairs z, 1 - z, and LIME's weighted least-squares fit on them."""
    if 2**segments <= ROWS:
        kept = _all_of(segments)
    else:
        half = torch.from_numpy(np.random.default_rng(_SEED).random((ROWS // 2, segments), dtype=np.float32) < 0.5)
        kept = _pairs(half)
    weights = cosine_kernel(kept.sum(1)[None], torch.tensor([segments]), kernel_width)[0]
    weights = weights / weights.sum()
    centred = kept.double() - weights @ kept.double()
    weighted = centred * weights[:, None]
    return _sample(kept, torch.linalg.solve(centred.T @ weighted, weighted.T), weights).to(device)


@lru_cache(maxsize=_KEPT)
def shapley_sample(segments: int, device: torch.device) -> Sample:
    """All segments, none, and pairs of evenly spread sizes, with the regression of `shapley_regression`."""
    if 2**segments <= ROWS:
        kept = _all_of(segments)
    else:
        half_sizes = torch.arange(ROWS // 2 - 1) % (segments // 2) + 1
        draws = np.random.default_rng(_SEED).random((len(half_sizes), segments), dtype=np.float32)
        half = torch.from_numpy(draws).argsort(1).argsort(1) < half_sizes[:, None]
        kept = _pairs(torch.cat([torch.zeros(1, segments, dtype=torch.bool), half]))
    sizes = kept.sum(1)
    times = sizes.bincount(minlength=segments + 1)[sizes].double()
    none, every = int((sizes == 0).nonzero()), int((sizes == segments).nonzero())
    inner = (sizes > 0) & (sizes < segments)
    weights = torch.where(inner, 1 / (times * (sizes * (segments - sizes)).clamp_min(1)), 0.0)
    weighted = kept.double() * weights[:, None]
    gram = weighted.T @ kept.double() if segments > 1 else torch.ones(1, 1, dtype=torch.float64)
    inverse = torch.linalg.inv(gram)
    even = inverse.sum(1) / inverse.sum()
    # phi = A^-1 b - (A^-1 1 / 1'A^-1 1) (1'A^-1 b - Delta), of b = sum_r w_r z_r (v_r - v(none)).
    estimator = (inverse - even[:, None] * inverse.sum(0)) @ weighted.T
    estimator[:, none] -= estimator.sum(1) + even
    estimator[:, every] += even
    return _sample(kept, estimator, 1 / (times * (segments + 1))).to(device)


def _in_pairs(parts: Tensor) -> Tensor:
    return parts[:, ::2] + parts[:, 1::2]


def _pairs(half: Tensor) -> Tensor:
    return torch.stack([half, ~half], 1).flatten(0, 1)


def _sample(kept: Tensor, estimator: Tensor, shares: Tensor) -> Sample:
    signs = 2 * kept.to(torch.float64 if len(kept) == 2 ** kept.shape[1] else torch.float32) - 1
    return Sample(signs, estimator, shares)


def _all_of(segments: int) -> Tensor:
    return (torch.arange(2**segments)[:, None] >> torch.arange(segments) & 1).bool()
