"""What a method reports, as a linear functional of the whole game: exact for games that are products over segments.

A game f gives a score to every coalition z of S segments. Of f(z) = prod_r (a_r where z_r = 0, b_r where z_r = 1), the
coefficients of LIME's fit on *all* 2^S coalitions, and the Shapley values, have closed forms. Sums over all coalitions
are never taken: LIME's weight depends on a coalition's size alone, and is a sum of S + 1 powers of roots of unity, each
of which is a product again; the Shapley value is an integral over the share of kept segments (Owen, "Multilinear
Extensions of Games", 1972), which Gauss-Legendre nodes give exactly.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fastxai.solve.kernels import cosine_kernel
from fastxai.solve.samples import Sample, lime_sample, shapley_sample

_ROWS = 128  # at a time: S^2 complex numbers each


class Functional(Protocol):
    """A report on games of S segments, [S]; it is 0 for games that do not vary, and additive games are what it says.

    `mean`: share of coalitions that keep a segment, as the report weighs them. `sample`: for games of no closed form.
    """

    mean: Tensor

    @property
    def sample(self) -> Sample:
        """Coalitions to read the game on, and the report's estimate from what is read."""

    def of_products(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The reports on games with factors low and high [n, S], float64 -> [n, S], and their weighted means [n]."""

    def of_kernel(self, relevance: Tensor) -> Tensor:
        """The variance of the report on a random game of covariance prod_r (1 +- t_r), + where z_r = z'_r:
        relevance t float64 [S] -> [S]."""


class LimeCoefficients:
    """Coefficients of the least-squares fit on all coalitions with LIME's weights, which is LIME with n = infinity."""

    def __init__(self, segments: int, kernel_width: float, device: torch.device) -> None:
        self.segments, self.kernel_width, self.device = segments, kernel_width, device
        sizes = torch.arange(segments + 1, dtype=torch.float64, device=device)
        total = sizes.new_full((), float(segments))
        ways = torch.lgamma(total + 1) - torch.lgamma(sizes + 1) - torch.lgamma(total - sizes + 1)
        weight = cosine_kernel(sizes[None], sizes.new_full((1,), float(segments)), kernel_width)[0]
        share = (ways - segments * math.log(2)).exp() * weight
        weight, share = weight / share.sum(), share / share.sum()
        # Of the weighted coalitions: the mean of a segment, and the covariance a I + b 11' of all.
        self.mean = (share * sizes).sum() / segments
        both = (share * sizes * (sizes - 1)).sum() / max(1, segments * (segments - 1))
        self.a, self.b = self.mean - both, both - self.mean**2
        roots = 2 * math.pi * sizes / (segments + 1)
        self.roots = torch.polar(torch.ones_like(roots), roots)
        self.parts = torch.fft.fft(weight.to(torch.complex128)) / (segments + 1)
        spread = weight * (sizes - segments * self.mean)
        self.spread = torch.fft.fft(spread.to(torch.complex128)) / (segments + 1)

    @property
    def sample(self) -> Sample:
        return lime_sample(self.segments, self.kernel_width, self.device)

    def of_products(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        found, means = [], []
        for a, b in zip(low.split(_ROWS), high.split(_ROWS), strict=True):
            factors = (a[:, None] + b[:, None] * self.roots[:, None]) / 2
            others, whole = _leave_one_out(factors)
            mean = (self.parts * whole).sum(-1).real
            kept = ((self.parts * self.roots)[:, None] * others).sum(1).real * b / 2
            found.append(self._solve(kept - self.mean * mean[:, None]))
            means.append(mean)
        return torch.cat(found), torch.cat(means)

    def of_kernel(self, relevance: Tensor) -> Tensor:
        e, same, other = self.roots, 1 + relevance, 1 - relevance
        both, first = (e[:, None] * e)[..., None], e[:, None, None]
        factors = (same * (1 + both) + other * (first + e[None, :, None])) / 4
        others, whole = _leave_one_out(factors)
        whole = whole[..., None]

        def summed(left: Tensor, right: Tensor, terms: Tensor) -> Tensor:
            found: Tensor = torch.einsum("f,g,fgs->s", left, right, terms).real
            return found

        kept, one_kept = same * both / 4 * others, (same * both + other * first) / 4 * others
        one, c = self.mean, self.parts
        # Covariances of two segments' shares: of one with itself, summed over one, summed over both.
        itself = summed(c, c, kept) - 2 * one * summed(c, c, one_kept) + one**2 * summed(c, c, whole)
        row = summed(c, self.spread, one_kept) - one * summed(c, self.spread, whole)
        every = summed(self.spread, self.spread, whole)
        straight, across = 1 / self.a, -self.b / (self.a * (self.a + self.segments * self.b))
        return straight**2 * itself + 2 * straight * across * row + across**2 * every

    def _solve(self, shares: Tensor) -> Tensor:
        """(a I + b 11')^-1 applied on the last axis."""
        rest = self.b / (self.a * (self.a + self.segments * self.b))
        return shares / self.a - rest * shares.sum(-1, keepdim=True)


class ShapleyValues:
    """phi_i = the integral over q in 0..1 of E[f(z with i) - f(z without i)], every other segment kept with share q."""

    def __init__(self, segments: int, device: torch.device) -> None:
        nodes, weights = np.polynomial.legendre.leggauss(segments // 2 + 1)  # exact for polynomials of degree S
        self.segments, self.device = segments, device
        self.mean = torch.tensor(0.5, dtype=torch.float64, device=device)
        self.share = torch.tensor((nodes + 1) / 2, dtype=torch.float64, device=device)
        self.weights = torch.tensor(weights / 2, dtype=torch.float64, device=device)

    @property
    def sample(self) -> Sample:
        return shapley_sample(self.segments, self.device)

    def of_products(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        found, means = [], []
        for a, b in zip(low.split(_ROWS), high.split(_ROWS), strict=True):
            others, whole = _leave_one_out(a[:, None] + (b - a)[:, None] * self.share[:, None])
            found.append((self.weights[:, None] * others).sum(1) * (b - a))
            means.append((self.weights * whole).sum(-1))
        return torch.cat(found), torch.cat(means)

    def of_kernel(self, relevance: Tensor) -> Tensor:
        q, p = self.share[:, None, None], self.share[None, :, None]
        alike = q * p + (1 - q) * (1 - p)
        others, _ = _leave_one_out((1 + relevance) * alike + (1 - relevance) * (1 - alike))
        found: Tensor = torch.einsum("f,g,fgs->s", self.weights, self.weights, others) * 4 * relevance
        return found


def _leave_one_out(factors: Tensor) -> tuple[Tensor, Tensor]:
    """Products over the last axis without each of its entries, without a division, and with all."""
    before, behind = factors.cumprod(-1), factors.flip(-1).cumprod(-1).flip(-1)
    one = torch.ones_like(factors[..., :1])
    return torch.cat([one, before[..., :-1]], -1) * torch.cat([behind[..., 1:], one], -1), before[..., -1]
