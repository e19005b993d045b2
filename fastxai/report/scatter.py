"""One value of images against several others: a scatter plot each, with the rank correlation and its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fastxai.errors import ArgumentError
from fastxai.measures import Relation
from fastxai.report.canvas import DPI, FAINT, FONT, INK, RULE
from fastxai.report.pictures import FIRST

_SMALL = 60  # images; the points of more are drawn smaller and paler


def scatter(
    values: Sequence[float], name: str, others: Mapping[str, Sequence[float]], relations: Mapping[str, Relation]
) -> Figure:
    """One plot for each of `others`: it along the horizontal axis, `values` along the vertical one.

    values: one number an image, NaN for none (drawn nowhere). relations: of each of `others` with `values`, printed
    over its plot.

    Raises:
        ArgumentError: for lengths that differ, no plot, or a plot without its relation.
    """
    if not others or others.keys() != relations.keys():
        raise ArgumentError(f"relations must be those of {', '.join(others) or 'some'}, got {', '.join(relations)}")
    for label, column in others.items():
        if len(column) != len(values):
            raise ArgumentError(f"{label} must be one number for each of {len(values)} images, got {len(column)}")
    figure = Figure(figsize=(3.4 * len(others), 3.6), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(others), sharey=True, squeeze=False)[0]
    for axis, (label, column) in zip(axes, others.items(), strict=True):
        _plot(axis, np.asarray(column, dtype=float), np.asarray(values, dtype=float), label, relations[label])
    axes[0].set_ylabel(name, color=INK, fontfamily=FONT, fontsize=10)
    return figure


def _plot(axis: Axes, across: np.ndarray, up: np.ndarray, label: str, relation: Relation) -> None:
    few = len(up) <= _SMALL
    axis.scatter(across, up, s=28 if few else 8, color=FIRST, alpha=0.85 if few else 0.35, linewidths=0)
    axis.set_xlabel(label, color=INK, fontfamily=FONT, fontsize=10)
    axis.set_title(_said(relation), loc="left", color=INK, fontfamily=FONT, fontsize=9)
    axis.grid(color=RULE, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(FAINT)
    axis.tick_params(colors=FAINT, labelsize=8)
    axis.margins(0.08)


def _said(relation: Relation) -> str:
    if np.isnan(relation.rho):
        return f"no correlation, {relation.count} images"
    text = f"ρ = {relation.rho:+.2f}"
    if relation.interval is not None:
        text += f"  ({relation.interval[0]:+.2f} to {relation.interval[1]:+.2f})"
    return f"{text}, {relation.count} images".replace("-", "−")
