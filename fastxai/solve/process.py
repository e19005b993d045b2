"""A Gaussian process on coalitions, given a game's readings.

With u = 1 where segment r is kept and -1 where it is hidden, the covariance of two coalitions is

    l sum_r q_r u_r u'_r / S  +  (1 - l) prod_r (1 + t_r u_r u'_r) / (1 + t_r),        t_r = tanh(g q_r / S).

A random game of the first kind is additive; one of the second has main effects, pairs, triples and so on of ever
smaller size, each by the relevance q = 1 - m + m rho of its segments. (Rasmussen and Williams, "Gaussian Processes for
Machine Learning", 2006, ch. 2.7 and 5.4; O'Hagan, "Bayes-Hermite Quadrature", 1991.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastxai.solve.functionals import Functional
from fastxai.solve.warps import Warp

_TINY = torch.finfo(torch.float64).tiny
_ROWS = 1024  # foretold at a time: what lies between fits a cache
_FARTHEST = 2.0  # of atanh(t): beyond it a segment's two halves would be games of their own


@dataclass(frozen=True)
class Shape:
    """How a covariance looks: g, the nugget, l and m of the formula, and the scale on which the game is a process."""

    interaction: float
    nugget: float
    additive: float
    own: float
    warp: Warp


@dataclass(frozen=True)
class Report:
    """What a method reports of one image's game: weights and their standard errors float64 [K, S], mean [K]."""

    weights: Tensor
    stderr: Tensor
    mean: Tensor


@dataclass(frozen=True)
class Process:
    """duals [n, K] weigh the covariances with the readings; everything but `values` is on the warped scale."""

    values: Tensor
    warp: Warp
    signs: Tensor
    linear: Tensor  # l q / S
    steep: Tensor  # atanh(t)
    share: float  # 1 - l
    factor: Tensor
    ones: Tensor
    mean: Tensor
    duals: Tensor
    likelihood: float  # restricted, of the values as they were read

    @classmethod
    def fit(cls, signs: Tensor, values: Tensor, relevance: Tensor, shape: Shape) -> Process:
        """From signs [n, S] of -1 and 1, values [n, K] and relevances rho [S], all float64."""
        rows, targets = values.shape
        each = ((1 - shape.own) + shape.own * relevance) / len(relevance)
        steep = (shape.interaction * each).clamp(max=_FARTHEST)
        linear, share = shape.additive * each, 1 - shape.additive
        covariance = _products(signs, signs, steep, share) + (signs * linear) @ signs.T
        covariance.diagonal().add_(shape.nugget)  # of 1
        factor = torch.linalg.cholesky(covariance)
        warped = shape.warp(values)
        solved = torch.cholesky_solve(torch.cat([values.new_ones(rows, 1), warped], 1), factor)
        ones = solved[:, 0]
        mean = solved[:, 1:].sum(0) / ones.sum()
        duals = solved[:, 1:] - ones[:, None] * mean
        # Values that do not vary have no scale of their own; the smallest number stands for it.
        scale = (((warped - mean) * duals).sum(0) / (rows - 1)).clamp_min(_TINY)
        volume = 2 * factor.diagonal().log().sum() + ones.sum().log()
        # One of the rows goes to the mean, of the Jacobian too: so a warp's own scale does not matter.
        jacobian = shape.warp.volume(values).sum() * (rows - 1) / rows
        likelihood = float(jacobian - 0.5 * (targets * volume + (rows - 1) * scale.log().sum()))
        return cls(values, shape.warp, signs, linear, steep, share, factor, ones, mean, duals, likelihood)

    def parts(self, functional: Functional) -> tuple[Tensor, Tensor]:
        """The functional of the covariance with each reading [n, S], and its mean [n]."""
        own = self.products * self.signs
        parts, means = functional.of_products(1 - own, 1 + own)
        linear = self.signs * self.linear  # a sign is 2 z - 1: its report is 2 for its own segment
        return parts * self.unit + 2 * linear, means * self.unit + linear.sum(1) * (2 * functional.mean - 1)

    @property
    def products(self) -> Tensor:
        """t of the formula, [S]."""
        return self.steep.tanh()

    @property
    def unit(self) -> Tensor:
        """What makes the products' variance 1 - l."""
        return self.share * (-self.products.log1p().sum()).exp()

    def weights(self, parts: Tensor) -> Tensor:
        """On the warped scale, [K, S]."""
        return self.duals.T @ parts

    def report(self, functional: Functional) -> Report:
        """Of the game on its own scale.

        Where that is warped, the game is back(t): the report of slope * t, its best straight line, is exact, and that
        of the rest is estimated on a sample of coalitions.
        """
        parts, means = self.parts(functional)
        weights, variance = self.weights(parts), self._variance(parts, functional)
        mean = self.mean + self.duals.T @ means
        if not self.warp.straight:
            sample = functional.sample
            warped = self.predict(sample.signs)
            game = self.warp.back(warped)
            centred = warped - sample.shares @ warped
            slope = (sample.shares @ (centred * game)) / (sample.shares @ centred**2).clamp_min(_TINY)
            rest, doubt, left = sample.report(game - slope * warped)
            weights, mean, variance = slope[:, None] * weights + rest, slope * mean + left, variance + doubt
        return Report(weights, variance.sqrt(), mean)

    def predict(self, signs: Tensor) -> Tensor:
        """The game at other coalitions, on the warped scale, in the signs' precision: [m, S] -> float64 [m, K]."""
        others, duals = self.signs.to(signs.dtype), self.duals.to(signs.dtype)
        steep, linear = self.steep.to(signs.dtype), self.linear[:, None] * (self.signs.T @ self.duals)
        found = [
            (_products(part, others, steep, self.share) @ duals + part @ linear.to(signs.dtype)).double()
            for part in signs.split(_ROWS)
        ]
        return torch.cat(found) + self.mean

    def _variance(self, parts: Tensor, functional: Functional) -> Tensor:
        """Of the weights, [K, S]."""
        variance = functional.of_kernel(self.products) * self.unit + 4 * self.linear
        white = torch.linalg.solve_triangular(self.factor, parts, upper=False)
        left = variance - (white**2).sum(0) + (self.ones @ parts) ** 2 / self.ones.sum()
        inverse = torch.cholesky_inverse(self.factor).diagonal()[:, None]
        # Each reading foretold from all the others, on its own scale: by how much it is missed, in standard deviations.
        missed = self.values - self.warp.back(self.warp(self.values) - self.duals / inverse)
        return left.clamp_min(0) * (missed**2 * inverse).mean(0)[:, None]


def _products(signs: Tensor, others: Tensor, steep: Tensor, share: float) -> Tensor:
    """The covariance's second term: [m, S], [n, S] -> [m, n]."""
    return share * ((signs * steep) @ others.T - steep.sum()).exp_()
