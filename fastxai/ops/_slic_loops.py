"""The compiled loop of SLIC on the CPU: the nearest centre of each pixel, new centres, connected segments.

Pictures run side by side, a picture on one thread: a pass over one takes a millisecond, which is less than threads may
take to meet on a busy machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastxai.ops._numba import ParallelLoop, prange

FARTHEST = np.finfo(np.float64).max
BORDER = np.iinfo(np.int32).min  # no label, and no centre's complement


def assign(nearest, least, colours, centres, step_y, step_x, weight):  # type: ignore[no-untyped-def]
    """nearest [H, W]: the centre at the least distance among those that reach the pixel, the first of equals.

    least float64 [H, W], scratch; colours [3, H, W]; centres [K, 5]: colour, row, column, NaN where nothing is left of
    a segment. A centre reaches two steps to each side. A pixel that none reaches keeps the centre that it had.
    """
    height, width = nearest.shape
    least[:] = FARTHEST
    for k in range(centres.shape[0]):
        c0, c1, c2, cy, cx = centres[k]
        if np.isnan(cy):
            continue
        top, bottom = int(max(cy - 2 * step_y, 0.0)), int(min(cy + 2 * step_y + 1, float(height)))
        left, right = int(max(cx - 2 * step_x, 0.0)), int(min(cx + 2 * step_x + 1, float(width)))
        for y in range(top, bottom):
            dy = cy - y
            dy *= dy
            row, near = least[y, left:right], nearest[y, left:right]
            p0, p1, p2 = colours[0, y, left:right], colours[1, y, left:right], colours[2, y, left:right]
            for i in range(right - left):
                dx = cx - (left + i)
                d0, d1, d2 = p0[i] - c0, p1[i] - c1, p2[i] - c2
                distance = (dy + dx * dx) * weight + (d0 * d0 + d1 * d1 + d2 * d2)
                # Both are always written, so that the loop runs in vectors.
                nearer = row[i] > distance
                row[i] = distance if nearer else row[i]
                near[i] = k if nearer else near[i]


def update(centres, nearest, colours):  # type: ignore[no-untyped-def]
    """centres [K, 5]: the means of their pixels, summed in raster order; NaN where there are none."""
    height, width = nearest.shape
    segments = centres.shape[0]
    total, count = np.zeros((segments, 5)), np.zeros(segments)
    p0, p1, p2 = colours[0], colours[1], colours[2]
    for y in range(height):
        x = 0
        while x < width:
            # The sums of a run of pixels stay in registers.
            k, start = nearest[y, x], x
            t0, t1, t2, across = total[k, 0], total[k, 1], total[k, 2], total[k, 4]
            while x < width and nearest[y, x] == k:
                t0 += p0[y, x]
                t1 += p1[y, x]
                t2 += p2[y, x]
                across += x
                x += 1
            total[k, 0], total[k, 1], total[k, 2], total[k, 4] = t0, t1, t2, across
            total[k, 3] += y * (x - start)
            count[k] += x - start
    for k in range(segments):
        for f in range(5):
            centres[k, f] = total[k, f] / count[k] if count[k] > 0 else np.nan


def connect(labels, nearest, smallest, largest):  # type: ignore[no-untyped-def]
    """labels int32 [H, W]: the number of the connected segment of each pixel, from its centre in `nearest`.

    Components are met in raster order of their first pixels and searched breadth first. One that has reached `largest`
    pixels ends there; one of fewer than `smallest` joins the segment that the search touched last, or, if it touched
    none, shares its number with the next.
    """
    height, width = nearest.shape
    line = width + 2
    label = np.full((height + 2) * line, BORDER, np.int32)  # a border spares the tests for one
    inner = label.reshape(height + 2, line)[1:-1, 1:-1]
    inner[:] = ~nearest  # negative until the pixel is in a segment
    queue = np.empty(largest, np.int32)
    fresh = 0
    for start in range(line, (height + 1) * line):
        old = label[start]
        if old >= 0 or old == BORDER:
            continue
        adjacent = fresh
        label[start] = fresh
        queue[0] = start
        size, visited = 1, 0
        while visited < size and size < largest:
            for step in (1, -1, line, -line):
                to = queue[visited] + step
                found = label[to]
                if found == old:
                    label[to] = fresh
                    queue[size] = to
                    size += 1
                    if size >= largest:
                        break
                elif found >= 0 and found != fresh:
                    adjacent = found
            visited += 1
        if size < smallest:
            for i in range(size):
                label[queue[i]] = adjacent
        else:
            fresh += 1
    labels[:] = inner


class _LoopOfPhases(ParallelLoop):
    """A loop that calls the three phases, compiled with it."""

    def parts(self, numba: Any) -> Mapping[str, Any]:
        return {phase.__name__: numba.njit(nogil=True)(phase) for phase in (assign, update, connect)}


@_LoopOfPhases
def cluster(labels, colours, start, iterations, step_y, step_x, weight, smallest, largest):  # type: ignore[no-untyped-def]
    """labels int32 [B, H, W] from colours [B, 3, H, W] and the first centres start [K, 5]."""
    batch, height, width = labels.shape
    for b in prange(batch):
        centres = start.copy()
        nearest = np.zeros((height, width), np.int64)  # as wide as the distances, for the vectors' sake
        least = np.empty((height, width))
        for turn in range(iterations):
            if turn > 0:
                update(centres, nearest, colours[b])
            assign(nearest, least, colours[b], centres, step_y, step_x, weight)
        connect(labels[b], nearest, smallest, largest)
