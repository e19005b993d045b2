"""A smooth stand-in for the game: a Gaussian process on coalitions, from few readings of the model.

With u = 1 where segment r is kept and -1 where it is hidden, the covariance of two coalitions is

    l sum_r q_r u_r u'_r / S  +  (1 - l) prod_r (1 + t_r u_r u'_r) / (1 + t_r),        t_r = tanh(g q_r / S).

A random game of the first kind is additive; one of the second has main effects, pairs, triples and so on of ever
smaller size, each by the relevance q = 1 - m + m rho of its segments; rho_r is the size of r's weight by a first fit
with m = 0, divided by their mean. How much interaction g there is, how far m segments have relevances of their own, how
additive l the game is, and which part of the readings no smooth game explains (the nugget), are found by restricted
maximum likelihood, climbing in steps on a grid. What a method reports is a linear functional of the game: its mean and
variance are exact (Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, ch. 2.7 and 5.4; O'Hagan,
"Bayes-Hermite Quadrature", 1991).
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
_ADDITIVE = (0.0, 0.3, 0.6, 0.8, 0.9, 0.97)
_FARTHEST = 2.0  # of atanh(t): beyond it a segment's two halves would be games of their own
_LEARNED = 384  # rows that decide the shape of the covariance: more took four times as long for equal errors

_Place = tuple[int, ...]  # on the grid: interaction, nugget, additive, own
_GRID = (_INTERACTION, _NUGGET, _ADDITIVE, _OWN)
_START = (4, 5, 1, 0)


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
    first = _climb(_likelihood(signs[few], values[few], flat), _START, fixed=(3,))
    process = _Process.fit(signs[few], values[few], flat, first)
    relevance = process.weights(process.parts(functional)[0]).abs().mean(0)
    relevance = relevance / relevance.mean() if relevance.any() else flat
    best = _climb(_likelihood(signs[few], values[few], relevance), (*first[:3], 2), fixed=())
    process = _Process.fit(signs, values, relevance, best)
    parts, means = process.parts(functional)
    return Report(process.weights(parts), process.stderr(parts, functional), process.mean + process.duals.T @ means)


def _likelihood(signs: Tensor, values: Tensor, relevance: Tensor) -> Callable[[_Place], float]:
    seen: dict[_Place, float] = {}

    def likelihood(place: _Place) -> float:
        if place not in seen:
            seen[place] = _Process.fit(signs, values, relevance, place).likelihood
        return seen[place]

    return likelihood


def _climb(value: Callable[[_Place], float], place: _Place, fixed: tuple[int, ...]) -> _Place:
    """The place on the grid that is better than all its neighbours, uphill along one axis after another."""
    while True:
        begun = place
        for axis in (axis for axis in range(len(_GRID)) if axis not in fixed):
            for step in (-1, 1):
                while (following := _neighbour(place, axis, step)) is not None and value(following) > value(place):
                    place = following
        if place == begun:
            return place


def _neighbour(place: _Place, axis: int, step: int) -> _Place | None:
    at = place[axis] + step
    return (*place[:axis], at, *place[axis + 1 :]) if 0 <= at < len(_GRID[axis]) else None


@dataclass(frozen=True)
class _Process:
    """The process given the readings: duals [n, K] weigh the covariances with them."""

    signs: Tensor
    linear: Tensor  # l q / S
    products: Tensor  # t
    share: float  # 1 - l
    factor: Tensor
    ones: Tensor
    mean: Tensor
    duals: Tensor
    scale: Tensor
    likelihood: float

    @classmethod
    def fit(cls, signs: Tensor, values: Tensor, relevance: Tensor, place: _Place) -> _Process:
        interaction, nugget, additive, own = (choices[at] for choices, at in zip(_GRID, place, strict=True))
        rows, targets = values.shape
        each = ((1 - own) + own * relevance) / len(relevance)
        steep = (interaction * each).clamp(max=_FARTHEST)
        linear, share = additive * each, 1 - additive
        covariance = share * ((signs * steep) @ signs.T - steep.sum()).exp() + (signs * linear) @ signs.T
        covariance.diagonal().add_(nugget)  # of 1
        factor = torch.linalg.cholesky(covariance)
        solved = torch.cholesky_solve(torch.cat([values.new_ones(rows, 1), values], 1), factor)
        ones = solved[:, 0]
        mean = solved[:, 1:].sum(0) / ones.sum()
        duals = solved[:, 1:] - ones[:, None] * mean
        # Values that do not vary have no scale of their own; the smallest number stands for it.
        scale = (((values - mean) * duals).sum(0) / (rows - 1)).clamp_min(torch.finfo(torch.float64).tiny)
        volume = 2 * factor.diagonal().log().sum() + ones.sum().log()
        likelihood = -0.5 * float(targets * volume + (rows - 1) * scale.log().sum())
        return cls(signs, linear, steep.tanh(), share, factor, ones, mean, duals, scale, likelihood)

    def parts(self, functional: Functional) -> tuple[Tensor, Tensor]:
        """The functional of the covariance with each reading [n, S], and its mean [n]."""
        own = self.products * self.signs
        parts, means = functional.of_products(1 - own, 1 + own)
        linear = self.signs * self.linear  # a sign is 2 z - 1: its report is 2 for its own segment
        return parts * self.unit + 2 * linear, means * self.unit + linear.sum(1) * (2 * functional.mean - 1)

    @property
    def unit(self) -> Tensor:
        """What makes the products' variance 1 - l."""
        return self.share * (-self.products.log1p().sum()).exp()

    def weights(self, parts: Tensor) -> Tensor:
        """[K, S]"""
        return self.duals.T @ parts

    def stderr(self, parts: Tensor, functional: Functional) -> Tensor:
        """Of the weights, [K, S]."""
        variance = functional.of_kernel(self.products) * self.unit + 4 * self.linear
        white = torch.linalg.solve_triangular(self.factor, parts, upper=False)
        left = variance - (white**2).sum(0) + (self.ones @ parts) ** 2 / self.ones.sum()
        inverse = torch.cholesky_inverse(self.factor).diagonal()
        met = (self.duals**2 / inverse[:, None]).mean(
            0
        )  # mean square of left-out errors, by their variance, times scale
        return (left.clamp_min(0) * met[:, None]).sqrt()
