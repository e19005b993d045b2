"""A smooth stand-in for the game: a Gaussian process on coalitions, from few readings of the model.

The process is one of `process`, on one of the scales of `warps`. rho_r of its covariance is the size of r's weight by a
first fit with m = 0, divided by their mean. The rest of its shape - how much interaction there is, how far segments
have relevances of their own, how additive the game is, which part of the readings no smooth game explains (the nugget),
and the scale - is found by restricted maximum likelihood, climbing in steps on a grid. What a method reports is a
linear functional of the game.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from fastxai.solve.functionals import Functional
from fastxai.solve.process import Process, Report, Shape
from fastxai.solve.warps import Warp

_INTERACTION = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
_NUGGET = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)
_ADDITIVE = (0.0, 0.3, 0.6, 0.8, 0.9, 0.97)
_OWN = (0.0, 0.25, 0.5, 0.75, 0.9)
_OFFSET = (math.inf, 1.0, 0.1, 0.01, 1e-3)
_LEARNED = 384  # rows that decide the shape of the covariance: more took four times as long for equal errors
_BEYOND = 1e-5  # of 0 and 1: as far as rounding takes a probability

_Place = tuple[int, ...]
_GRID = (_INTERACTION, _NUGGET, _ADDITIVE, _OWN, _OFFSET)
_AXES = tuple(range(len(_GRID)))
_START = (4, 5, 1, 0)
_OWN_AXIS, _OFFSET_AXIS = 3, 4


def report_by_stand_in(kept: Tensor, values: Tensor, functional: Functional) -> Report:
    """The functional of the game that the readings suggest, for one image.

    kept bool [n, S]; values [n, K], of K targets, which share one covariance but for its size. Values that are all in
    0..1 are taken for probabilities and may be looked at as logits. The standard errors are those of the process,
    scaled so that they hold where each reading is foretold from all the others.
    """
    signs, values = 2 * kept.double() - 1, values.double()
    return _best(signs, values, functional).report(functional)


def _best(signs: Tensor, values: Tensor, functional: Functional) -> Process:
    few = slice(None, _LEARNED)
    flat = signs.new_ones(signs.shape[1])
    bent = _probable(values) and bool((values != values[0]).any())
    free = _AXES if bent else _AXES[:_OFFSET_AXIS]
    start: _Place = (*_START, len(_OFFSET) - 1 if bent else 0)
    first = _climb(_likelihood(signs[few], values[few], flat), start, [axis for axis in free if axis != _OWN_AXIS])
    process = Process.fit(signs[few], values[few], flat, _shape(first))
    relevance = process.weights(process.parts(functional)[0]).abs().mean(0)
    relevance = relevance / relevance.mean() if relevance.any() else flat
    start = (*first[:_OWN_AXIS], 2, *first[_OFFSET_AXIS:])
    best = _climb(_likelihood(signs[few], values[few], relevance), start, free)
    return Process.fit(signs, values, relevance, _shape(best))


def _probable(values: Tensor) -> bool:
    return bool((values >= -_BEYOND).all()) and bool((values <= 1 + _BEYOND).all())


def _shape(place: _Place) -> Shape:
    interaction, nugget, additive, own, offset = (choices[at] for choices, at in zip(_GRID, place, strict=True))
    return Shape(interaction, nugget, additive, own, Warp(offset))


def _likelihood(signs: Tensor, values: Tensor, relevance: Tensor) -> Callable[[_Place], float]:
    seen: dict[_Place, float] = {}

    def likelihood(place: _Place) -> float:
        if place not in seen:
            seen[place] = Process.fit(signs, values, relevance, _shape(place)).likelihood
        return seen[place]

    return likelihood


def _climb(value: Callable[[_Place], float], place: _Place, axes: Sequence[int]) -> _Place:
    """The place on the grid that is better than all its neighbours, uphill along one axis after another."""
    while True:
        begun = place
        for axis in axes:
            for step in (-1, 1):
                while (following := _neighbour(place, axis, step)) is not None and value(following) > value(place):
                    place = following
        if place == begun:
            return place


def _neighbour(place: _Place, axis: int, step: int) -> _Place | None:
    at = place[axis] + step
    return (*place[:axis], at, *place[axis + 1 :]) if 0 <= at < len(_GRID[axis]) else None
