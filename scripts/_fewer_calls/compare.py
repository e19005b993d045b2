"""One picture's figures: errors by number of rows, calls for the yardstick's error, and how "auto" does."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from _fewer_calls import fits
from _fewer_calls.draws import LimeDraw, ShapDraw
from _fewer_calls.readings import Readings
from fastxai.explainers.rounds import next_rows

LIME_YARDSTICK = 1000
LIME_ROWS = (128, 192, 256, 320, 384, 448, 576, 768)
MORE_ROWS = (1024, 1536, 2048, 3072, 4096)  # of LIME, until the tolerance of "auto" is met
SHAP_ROWS = (128, 192, 256, 384, 512, 768, 1024)
INTERVAL = 1.6449  # standard errors to either side that hold 90% of a normal distribution

Numbers = Mapping[str, Any]


def picture(file: Path, seeds: int, auto_seeds: int) -> dict[str, Any]:
    """Everything about one picture."""
    torch.set_num_threads(1)
    read = Readings.load(file)
    lime, shap = _lime(read, seeds), _shap(read, seeds)
    return {
        "name": read.name,
        "segments": read.segments,
        "lime": lime,
        "kernel-shap": shap,
        "auto": _auto(read, auto_seeds, lime["smooth, paired"]),
    }


def summary(pictures: Sequence[Numbers]) -> dict[str, Any]:
    """Medians over the pictures."""

    def middle(get: Callable[[Numbers], float]) -> float:
        return statistics.median(get(one) for one in pictures)

    return {
        **{
            f"lime calls for the error of {LIME_YARDSTICK} plain ones, {name}": middle(
                lambda one, name=name: one["lime"]["calls"][name]  # type: ignore[misc]
            )
            for name in ("smooth, paired", "smooth", "paired")
        },
        "lime, plain, error of 1000": middle(lambda one: one["lime"]["yardstick"]),
        "kernel-shap calls, share of shap's, its default": middle(lambda one: one["kernel-shap"]["default"]["share"]),
        "kernel-shap calls, share of shap's, l1_reg off": middle(lambda one: one["kernel-shap"]["without"]["share"]),
        "auto, rows against the fewest that meet the tolerance": middle(lambda one: one["auto"]["ratio"]),
        "auto, of 90% intervals hold the true coefficient": middle(lambda one: one["auto"]["covered"]),
    }


def calls_for(errors: Mapping[int, float], wanted: float) -> float:
    """The fewest rows at which the error is `wanted` or less: straight lines in logarithms between measured places.

    The least place measured where that is enough already, infinity where none is.
    """
    before: tuple[int, float] | None = None
    for rows, error in sorted(errors.items()):
        if error <= wanted:
            if before is None:
                return rows
            slope = math.log(wanted / before[1]) / math.log(error / before[1])
            return before[0] * (rows / before[0]) ** slope
        before = rows, error
    return math.inf


def _median_errors(
    rows: Sequence[int], seeds: int, fit: Callable[[int, int], Tensor], wanted: Callable[[int], Tensor]
) -> dict[int, float]:
    return {n: statistics.median(fits.error(fit(seed, n), wanted(seed)) for seed in range(seeds)) for n in rows}


def _lime(read: Readings, seeds: int) -> dict[str, Any]:
    kept, values = read.lime
    draws = [LimeDraw(len(kept), seed) for seed in range(seeds)]
    wanted = [_plain(read, draw.rest(LIME_YARDSTICK)) for draw in draws]
    (yardstick,) = _median_errors(
        [LIME_YARDSTICK], seeds, lambda seed, n: _plain(read, draws[seed].plain(n)), wanted.__getitem__
    ).values()

    def smooth(seed: int, n: int) -> Tensor:
        places = draws[seed].plain(n)
        return fits.smooth_lime(kept[places], values[places])[0]

    def paired(seed: int, n: int) -> Tensor:
        return _plain(read, draws[seed].paired(n))

    def smooth_paired(seed: int, n: int) -> Tensor:
        places = draws[seed].paired(n)
        return fits.smooth_lime(kept[places], values[places])[0]

    errors = {
        name: _median_errors(LIME_ROWS, seeds, fit, wanted.__getitem__)
        for name, fit in (("smooth, paired", smooth_paired), ("smooth", smooth), ("paired", paired))
    }
    best = errors["smooth, paired"]
    for rows in MORE_ROWS:
        if min(best.values()) > fits.LIME.tolerance:
            left = max(LIME_YARDSTICK, rows // 2)
            best |= _median_errors(
                [rows], seeds, smooth_paired, lambda seed, left=left: _plain(read, draws[seed].rest(left))
            )
    return {"yardstick": yardstick, **errors, "calls": {name: calls_for(of, yardstick) for name, of in errors.items()}}


def _plain(read: Readings, places: Tensor) -> Tensor:
    return fits.plain_lime(read.lime[0][places], read.lime[1][places])


def _shap(read: Readings, seeds: int) -> dict[str, Any]:
    kept, values = read.shap
    draws = [ShapDraw(kept, seed) for seed in range(seeds)]
    everything = torch.arange(len(kept))
    wanted = fits.linear_shap(kept, values, draws[0].weights(everything))

    def smooth(seed: int, n: int) -> Tensor:
        places = draws[seed].rows(n)
        return fits.smooth_shap(kept[places], values[places])[0]

    def linear(seed: int, n: int) -> Tensor:
        places = draws[seed].rows(n)
        return fits.linear_shap(kept[places], values[places], draws[seed].weights(places))

    errors = _median_errors(SHAP_ROWS, seeds, smooth, lambda seed: wanted)
    found: dict[str, Any] = {"smooth": errors, "linear": _median_errors(SHAP_ROWS, seeds, linear, lambda seed: wanted)}
    for name in ("default", "without"):
        peers = [fits.error(torch.from_numpy(getattr(peer, name)), wanted) for peer in read.peers]
        calls = calls_for(errors, statistics.median(peers))
        theirs = read.peers[0].calls
        found[name] = {"peer": statistics.median(peers), "peer calls": theirs, "calls": calls, "share": calls / theirs}
    return found


def _auto(read: Readings, seeds: int, errors: Mapping[int, float]) -> dict[str, Any]:
    """samples="auto" on pairs, at LIME's default tolerance: rows by its rule, and what its intervals hold."""
    kept, values = read.lime
    tolerance, most = fits.LIME.tolerance, fits.LIME.most
    wanted = _plain(read, torch.arange(len(kept)))
    rows, covered, missed = [], [], []
    for seed in range(seeds):
        draw, have, told = LimeDraw(len(kept), seed), 0, 0.0
        while (more := next_rows(have, told, tolerance, most)) > have:
            have = more
            places = draw.paired(have)
            weights, stderr = fits.smooth_lime(kept[places], values[places])
            told = float(stderr.norm() / weights.norm())
        rows.append(have)
        covered.append(float(((weights - wanted).abs() <= INTERVAL * stderr).double().mean()))
        missed.append(fits.error(weights, wanted))
    enough = calls_for(errors, tolerance)
    return {
        "tolerance": tolerance,
        "rows": statistics.median(rows),
        "enough": enough,
        "ratio": statistics.median(rows) / enough,
        "covered": statistics.mean(covered),
        "error": statistics.median(missed),
    }
