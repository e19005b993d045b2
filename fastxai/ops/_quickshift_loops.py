"""The compiled loops of quickshift on the CPU: densities, parents, labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastxai.ops._numba import ParallelLoop, prange

COLUMNS = 16  # a row of pixels is padded to a multiple of this, so that vector loops leave no remainder
FAR = 1e6  # colour of the padding: so far from any other that its share of a density vanishes
SHIFTER = 1.5 * 2.0**52  # adding it leaves a number rounded to an integer in the low bits of the mantissa
FLOOR = 1000.0  # 2^-1000 stands for everything smaller, which leaves the exponent's range
# 2^-g = 1 + g (E1 + g (E2 + ...)) on -1/2..1/2, to 6e-16 and exactly 1 at 0: interpolation of (2^-g - 1) / g at ten
# Chebyshev nodes.
E1, E2, E3 = -0.6931471805599462, 0.24022650695910075, -0.05550410866465167
E4, E5, E6 = 0.009618129107618665, -0.0013333558200794592, 0.00015403530424776529
E7, E8, E9 = -1.5252672924850737e-05, 1.3215451633221434e-06, -1.0205905413765595e-07
E10 = 7.070977866508138e-09


def power_of_half(d0, d1, d2):  # type: ignore[no-untyped-def]
    """2^-(d0^2 + d1^2 + d2^2), without a branch or a table, so that it runs in vectors."""
    square = d0 * d0 + d1 * d1 + d2 * d2
    square = square if square < FLOOR else FLOOR
    shifted = SHIFTER - square
    g = square + (shifted - SHIFTER)
    p = E10 * g + E9
    p = p * g + E8
    p = p * g + E7
    p = p * g + E6
    p = p * g + E5
    p = p * g + E4
    p = p * g + E3
    p = p * g + E2
    p = p * g + E1
    p = p * g + 1.0
    bits = np.float64(p).view(np.int64) + (np.float64(shifted).view(np.int64) << 52)
    return np.int64(bits).view(np.float64)


class _LoopOfPowers(ParallelLoop):
    """A loop that calls `power_of_half`, in which multiply and add may fuse: half of the time, a better last bit.

    The loop itself keeps to the order and the rounding that are written.
    """

    def parts(self, numba: Any) -> Mapping[str, Any]:
        return {"power_of_half": numba.njit(fastmath={"contract"})(power_of_half)}


@_LoopOfPowers
def sum_pairs(parts, lab, spatial, scale, strip):  # type: ignore[no-untyped-def]
    """What each strip of rows adds to the densities: every pair of pixels is worked out once and serves both.

    parts [B, strips, strip + radius, W]: the sums of rows first.. of a strip, those below it included that its pixels
    reach; lab [B, 3, H, W]; spatial [radius + 1, radius + 1]: factor by row and column distance; a pair counts
    spatial * 2^-|scale * difference|^2. A strip is one piece of work whatever the number of threads.
    """
    batch, _, height, width = lab.shape
    strips, radius = parts.shape[1], spatial.shape[0] - 1
    columns = (width + COLUMNS - 1) // COLUMNS * COLUMNS
    for task in prange(batch * strips):
        b, s = task // strips, task % strips
        first = s * strip
        rows, deep = min(strip, height - first), min(strip + radius, height - first)
        colour = np.full((deep, 3, columns + 2 * radius), FAR)
        for r in range(deep):
            for k in range(3):
                for c in range(width):
                    colour[r, k, radius + c] = lab[b, k, first + r, c] * scale
        total = np.zeros((deep, columns + 2 * radius))
        value, near = np.empty(columns), np.empty(columns)
        for r in range(rows):
            near[:] = 1.0  # with itself
            l0 = colour[r, 0, radius : radius + columns]
            l1 = colour[r, 1, radius : radius + columns]
            l2 = colour[r, 2, radius : radius + columns]
            for dr in range(min(radius + 1, deep - r)):
                for at in range(radius + 1 if dr == 0 else 0, 2 * radius + 1):
                    m0 = colour[r + dr, 0, at : at + columns]
                    m1 = colour[r + dr, 1, at : at + columns]
                    m2 = colour[r + dr, 2, at : at + columns]
                    far = total[r + dr, at : at + columns]
                    factor = spatial[dr, abs(at - radius)]
                    # Three loops, because the compiler cannot see that `near` and `far` do not overlap.
                    for c in range(columns):
                        value[c] = power_of_half(l0[c] - m0[c], l1[c] - m1[c], l2[c] - m2[c]) * factor
                    for c in range(columns):
                        near[c] += value[c]
                    for c in range(columns):
                        far[c] += value[c]
            for c in range(columns):
                total[r, radius + c] += near[c]
        for r in range(deep):
            for c in range(width):
                parts[b, s, r, c] = total[r, radius + c]


@ParallelLoop
def find_parents(parents, lab, density, reach, longest):  # type: ignore[no-untyped-def]
    """The nearest pixel of higher density; the first in raster order among the equally near; none: the pixel itself.

    parents int32 [B, H, W], raster indices; lab [B, 3, H, W]; density [B, H, W]; longest: squared length of the
    longest link. Rings of growing radius, up to `reach`, are searched until position alone is farther than the best so
    far. Squares are summed in the order of scikit-image, so that equal distances are equal here too.
    """
    batch, height, width = density.shape
    for line in prange(batch * height):
        b, r = line // height, line % height
        dense, l0, l1, l2 = density[b], lab[b, 0], lab[b, 1], lab[b, 2]
        for c in range(width):
            own, best, parent = dense[r, c], np.inf, r * width + c
            c0, c1, c2 = l0[r, c], l1[r, c], l2[r, c]
            for ring in range(1, reach + 1):
                if ring * ring > best:
                    break
                for y in range(max(r - ring, 0), min(r + ring, height - 1) + 1):
                    step = 1 if abs(y - r) == ring else 2 * ring
                    for x in range(c - ring, c + ring + 1, step):
                        if x < 0 or x >= width or dense[y, x] <= own:
                            continue
                        d0, d1, d2 = c0 - l0[y, x], c1 - l1[y, x], c2 - l2[y, x]
                        distance = d0 * d0 + d1 * d1 + d2 * d2 + float((r - y) * (r - y)) + float((c - x) * (c - x))
                        index = y * width + x
                        if distance < best or (distance == best and index < parent):
                            best, parent = distance, index
            parents[b, r, c] = parent if best <= longest else r * width + c


@ParallelLoop
def rank_roots(labels, parents):  # type: ignore[no-untyped-def]
    """labels int32 [B, pixels]: rank, in raster order, of the root that the parents int32 [B, pixels] lead to."""
    batch, pixels = parents.shape
    for b in prange(batch):
        parent, label = parents[b], labels[b]
        found = 0
        for p in range(pixels):
            label[p] = -1
            if parent[p] == p:
                label[p] = found
                found += 1
        for p in range(pixels):
            root = p
            while label[root] < 0:
                root = parent[root]
            # The whole path takes the label, so that each step is walked twice at most.
            at = p
            while label[at] < 0:
                label[at] = label[root]
                at = parent[at]
