"""A smooth stand-in for the game: a Gaussian process on coalitions, from few readings of the model.

The covariance of two coalitions is prod_r (1 + t_r u_r u'_r), with u = 1 where segment r is kept and -1 where it is
hidden. A random game of that kind has main effects, pairs, triples and so on of ever smaller size, each by the
relevance t of its segments:

    t_r = tanh(g (1 - m + m rho_r) / S),    rho_r = |weight of r| by a first fit with m = 0, divided by their mean.

How much interaction g there is, how far m segments have relevances of their own, and which part of the readings no
smooth game explains (the nugget), are found by restricted maximum likelihood, climbing in steps on a grid. What a
method reports is a linear functional of the game: its mean and variance are exact (Rasmussen and Williams, "Gaussian
Processes for Machine Learning", 2006, ch. 2.7 and 5.4; O'Hagan, "Bayes-Hermite Quadrature", 1991).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fastxai.solve.functionals import Functional

_INTERACTION = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
_NUGGET = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)
_OWN = (0.0, 0.25, 0.5, 0.75, 0.9)
_START = (4, 5, 2)
_FARTHEST = 2.0  # of atanh(t): beyond it a segment's two halves would be games of their own
_LEARNED = 1000  # rows that decide the shape of the covariance: the time goes with their cube

_Place = tuple[int, int, int]


@dataclass(frozen=True)
class Report:
    """What a method reports of one image's game: weights and their standard errors float64 [K, S], mean [K]."""

    weights: Tensor
    stderr: Tensor
    mean: Tensor


def report_by_stand_in(kept: Tensor, values: Tensor, functional: Functional) -> Report:
    """The functional of the game that the readings suggest, for one image.

    kept bool [n, S]; values [n, K], of K targets, which share one covariance but for its size. The standard errors are
    those of the process, scaled so that they hold where each reading is foretold from all the others.
    """
    signs, values = 2 * kept.to(torch.float64) - 1, values.to(torch.float64)
    flat = signs.new_ones(signs.shape[1])
    few = slice(None, _LEARNED)
    first = _climb(_likelihood(signs[few], values[few], flat), (_START[0], _START[1], 0), own=False)
    weights, _ = _Process.fit(signs[few], values[few], _relevance(first, flat), _NUGGET[first[1]]).report(functional)
    relevance = weights.abs().mean(0)
    relevance = relevance / relevance.mean() if relevance.any() else flat
    best = _climb(_likelihood(signs[few], values[few], relevance), (first[0], first[1], _START[2]), own=True)
    process = _Process.fit(signs, values, _relevance(best, relevance), _NUGGET[best[1]])
    weights, mean = process.report(functional)
    return Report(weights, process.stderr(functional), mean)


def _relevance(place: _Place, relevance: Tensor) -> Tensor:
    interaction, own = _INTERACTION[place[0]], _OWN[place[2]]
    return (interaction * ((1 - own) + own * relevance) / len(relevance)).clamp(max=_FARTHEST).tanh()


def _likelihood(signs: Tensor, values: Tensor, relevance: Tensor) -> Callable[[_Place], float]:
    seen: dict[_Place, float] = {}

    def likelihood(place: _Place) -> float:
        if place not in seen:
            seen[place] = _Process.fit(signs, values, _relevance(place, relevance), _NUGGET[place[1]]).likelihood
        return seen[place]

    return likelihood


def _climb(value: Callable[[_Place], float], place: _Place, own: bool) -> _Place:
    """The place on the grid that is better than all its neighbours, from `place` on uphill."""
    sizes = (len(_INTERACTION), len(_NUGGET), len(_OWN) if own else 1)
    while True:
        around = [place]
        for axis, size in enumerate(sizes):
            for step in (-1, 1):
                if 0 <= place[axis] + step < size:
                    moved = list(place)
                    moved[axis] += step
                    around.append((moved[0], moved[1], moved[2]))
        best = max(around, key=value)
        if best == place:
            return place
        place = best


@dataclass(frozen=True)
class _Process:
    """The process given the readings: duals [n, K] weigh the covariances with them."""

    signs: Tensor
    relevance: Tensor
    factor: Tensor
    ones: Tensor
    mean: Tensor
    duals: Tensor
    scale: Tensor
    likelihood: float

    @classmethod
    def fit(cls, signs: Tensor, values: Tensor, relevance: Tensor, nugget: float) -> _Process:
        rows, targets = values.shape
        steep = relevance.atanh()
        covariance = ((signs * steep) @ signs.T - steep.sum()).exp()  # 1 on the diagonal
        covariance.diagonal().add_(nugget)
        factor = torch.linalg.cholesky(covariance)
        solved = torch.cholesky_solve(torch.cat([values.new_ones(rows, 1), values], 1), factor)
        ones = solved[:, 0]
        mean = solved[:, 1:].sum(0) / ones.sum()
        duals = solved[:, 1:] - ones[:, None] * mean
        # Values that do not vary have no scale of their own; the smallest number stands for it.
        scale = (((values - mean) * duals).sum(0) / (rows - 1)).clamp_min(torch.finfo(torch.float64).tiny)
        volume = 2 * factor.diagonal().log().sum() + ones.sum().log()
        likelihood = -0.5 * float(targets * volume + (rows - 1) * scale.log().sum())
        return cls(signs, relevance, factor, ones, mean, duals, scale, likelihood)

    def _covered(self, functional: Functional) -> tuple[Tensor, Tensor, Tensor]:
        """The functional of the covariance with each reading [n, S], its mean [n], and its unit."""
        unit = (-self.relevance.log1p().sum()).exp()
        own = self.relevance * self.signs
        parts, means = functional.of_products(1 - own, 1 + own)
        return parts * unit, means * unit, unit

    def report(self, functional: Functional) -> tuple[Tensor, Tensor]:
        parts, means, _ = self._covered(functional)
        return self.duals.T @ parts, self.mean + self.duals.T @ means

    def stderr(self, functional: Functional) -> Tensor:
        parts, _, unit = self._covered(functional)
        white = torch.linalg.solve_triangular(self.factor, parts, upper=False)
        left = (
            functional.of_kernel(self.relevance) * unit - (white**2).sum(0) + (self.ones @ parts) ** 2 / self.ones.sum()
        )
        inverse = torch.cholesky_inverse(self.factor).diagonal()
        met = (self.duals**2 / inverse[:, None]).mean(
            0
        )  # mean square of left-out errors, by their variance, times scale
        return (left.clamp_min(0) * met[:, None]).sqrt()
