"""Quickshift superpixels, with the labels that scikit-image gives.

    density(p) = noise(p) + sum over q in the window of p of exp(-|p - q|^2 / (2 kernel_size^2))
    parent(p)  = the nearest q in the window with density(q) > density(p), or p itself

A pixel is a point in five dimensions: ratio * (L, a, b), row and column. The window reaches ceil(3 kernel_size) pixels
to each side. Links longer than max_dist are cut; what hangs together is a segment. Vedaldi and Soatto, "Quick Shift
and Kernel Methods for Mode Seeking" (ECCV 2008).

Densities are summed in another order in the fast forms than in scikit-image: they differ by 1e-13 at most, where the
noise that breaks ties is 1e-5. Distances that decide on a parent are summed in its order.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastxai.config import check_float
from fastxai.ops import _cuda, _quickshift_loops
from fastxai.ops._checks import check_devices, check_not_empty, check_tensor, choose, default_for
from fastxai.ops._lab import lab

SEED, NOISE = 42, 1e-5  # scikit-image's own
STRIP = 16  # rows in a piece of work of the CPU loop, at least


def quickshift(
    pictures: Tensor,
    *,
    kernel_size: float = 4.0,
    max_dist: float = 200.0,
    ratio: float = 0.2,
    implementation: str | None = None,
) -> Tensor:
    """Segments by following each pixel to the nearest one of higher density.

    pictures uint8 [B, 3, H, W], RGB; kernel_size >= 1, in pixels; max_dist >= 0, in pixels; ratio in 0..1, pixels per
    unit of Lab. Returns labels int32 [B, H, W], 0..S-1 in the raster order of their roots. The defaults are those of
    the `lime` package. A picture's labels do not depend on the others in the call.
    """
    check_tensor("pictures", pictures, (torch.uint8,), "B 3 H W", {})
    kernel_size = check_float("kernel_size", kernel_size, 1.0, high=1e100)  # its square must stay within float64
    max_dist = check_float("max_dist", max_dist, 0.0)
    ratio = check_float("ratio", ratio, 0.0, high=1.0)
    device = check_devices(pictures=pictures)
    chosen = choose(implementation, default_for(device, cpu="numba", cuda="cuda"), ("torch", "numba", "cuda"))
    if pictures.shape[0] == 0:
        return torch.empty(0, *pictures.shape[2:], dtype=torch.int32, device=device)
    check_not_empty("pictures", pictures)
    run = {"torch": _torch, "numba": _numba, "cuda": _kernel}[chosen]
    return run(lab(pictures).mul_(ratio), kernel_size, max_dist)


@functools.lru_cache(maxsize=8)
def _noise(height: int, width: int, device: torch.device) -> Tensor:
    """What breaks ties: float64 [H, W]."""
    drawn = np.random.default_rng(SEED).normal(scale=NOISE, size=(height, width))
    return torch.from_numpy(drawn).to(device)


def _radius(kernel_size: float, height: int, width: int) -> int:
    """How far the window reaches; beyond the picture there is nothing to reach."""
    return min(math.ceil(3 * kernel_size), max(height, width) - 1)


def _reach(radius: int, max_dist: float) -> int:
    """How far parents are looked for: a link spans at least the distance in rows or columns."""
    return min(radius, math.floor(max_dist))


def _longest(max_dist: float) -> float:
    """The largest squared distance whose root, rounded, is at most max_dist: comparing with it spares the root."""
    square = min(max_dist, 1e9) ** 2  # beyond that nothing is cut
    while math.sqrt(square) > max_dist:
        square = math.nextafter(square, 0.0)
    while math.sqrt(math.nextafter(square, math.inf)) <= min(max_dist, 1e9):
        square = math.nextafter(square, math.inf)
    return square


def _torch(points: Tensor, kernel_size: float, max_dist: float) -> Tensor:
    """The reference: one offset of the window after the other, for all pixels at once, in raster order."""
    batch, _, height, width = points.shape
    radius = _radius(kernel_size, height, width)
    offsets = [(dr, dc) for dr in range(-radius, radius + 1) for dc in range(-radius, radius + 1)]
    offsets = [(dr, dc) for dr, dc in offsets if abs(dr) < height and abs(dc) < width]

    def squares(dr: int, dc: int) -> tuple[tuple[slice, ...], tuple[slice, ...], Tensor]:
        """The pixels that have a partner at this offset, their partners, and the squared distances."""
        rows, columns = slice(max(0, -dr), height - max(0, dr)), slice(max(0, -dc), width - max(0, dc))
        here = (slice(None), rows, columns)
        there = (slice(None), slice(rows.start + dr, rows.stop + dr), slice(columns.start + dc, columns.stop + dc))
        light, a, b = ((points[:, k][here] - points[:, k][there]) ** 2 for k in range(3))
        return here, there, light + a + b + dr * dr + dc * dc

    density = _noise(height, width, points.device).repeat(batch, 1, 1)
    for dr, dc in offsets:
        here, _, square = squares(dr, dc)
        density[here] += torch.exp(square * (-0.5 / kernel_size**2))
    index = torch.arange(height * width, device=points.device).view(1, height, width).repeat(batch, 1, 1)
    parent, best = index.clone(), torch.full_like(density, torch.inf)
    for dr, dc in offsets:
        here, there, square = squares(dr, dc)
        nearer = (density[there] > density[here]) & (square < best[here])
        best[here] = torch.where(nearer, square, best[here])
        parent[here] = torch.where(nearer, index[there], parent[here])
    root = torch.where(best.sqrt() > max_dist, index, parent).flatten(1)
    while True:
        further = root.gather(1, root)
        if torch.equal(further, root):
            return _rank(root).view(batch, height, width)
        root = further


def _rank(root: Tensor) -> Tensor:
    """Roots by raster index int [B, pixels] -> labels int32 [B, pixels]: the rank of the pixel's root."""
    is_root = root == torch.arange(root.shape[1], device=root.device)
    return (is_root.cumsum(1) - 1).gather(1, root.long()).int()


def _tables(kernel_size: float, radius: int) -> tuple[Tensor, float]:
    """spatial and scale: exp(-|p - q|^2 / (2 kernel_size^2)) = spatial[|rows|, |columns|] * 2^-(scale * |Lab|)^2.

    rows, columns, Lab: the differences of p and q; spatial float64 [radius + 1, radius + 1].
    """
    square = torch.arange(radius + 1, dtype=torch.float64) ** 2
    spatial = torch.exp((square[:, None] + square) * (-0.5 / kernel_size**2))
    return spatial, math.sqrt(0.5 * math.log2(math.e)) / kernel_size


def _densities(points: Tensor, kernel_size: float, radius: int) -> NDArray[np.float64]:
    """points float64 [B, 3, H, W] on the CPU -> densities [B, H, W], each strip of rows worked out by itself."""
    batch, _, height, width = points.shape
    spatial, scale = _tables(kernel_size, radius)
    strip = max(radius, STRIP)
    parts = np.empty((batch, -(-height // strip), strip + radius, width))
    _quickshift_loops.sum_pairs(parts, points.numpy(), spatial.numpy(), scale, strip)
    density: NDArray[np.float64] = _noise(height, width, points.device).repeat(batch, 1, 1).numpy()
    for s in range(parts.shape[1]):
        rows = density[:, s * strip : (s + 1) * strip + radius]
        rows += parts[:, s, : rows.shape[1]]
    return density


def _numba(points: Tensor, kernel_size: float, max_dist: float) -> Tensor:
    batch, _, height, width = points.shape
    radius = _radius(kernel_size, height, width)
    density = _densities(points, kernel_size, radius)
    parents, labels = (np.empty((batch, height * width), np.int32) for _ in range(2))
    _quickshift_loops.find_parents(
        parents.reshape(density.shape), points.numpy(), density, _reach(radius, max_dist), _longest(max_dist)
    )
    _quickshift_loops.rank_roots(labels, parents)
    return torch.from_numpy(labels.reshape(density.shape))


def _kernel(points: Tensor, kernel_size: float, max_dist: float) -> Tensor:
    batch, _, height, width = points.shape
    device = points.device
    radius = _radius(kernel_size, height, width)
    spatial, scale = _tables(kernel_size, radius)
    density = torch.empty(batch, height, width, dtype=torch.float64, device=device)
    parent, root = (torch.empty(batch, height * width, dtype=torch.int32, device=device) for _ in range(2))
    tile = (32, 4, 1)
    tiles = (-(-width // tile[0]), -(-height // tile[1]), batch)
    sizes = (np.int32(height), np.int32(width))
    _cuda.launch(
        "quickshift",
        "quickshift_density",
        defines={},
        grid=tiles,
        block=tile,
        arguments=(
            density,
            points * scale,
            _noise(height, width, device),
            spatial.to(device, non_blocking=True),
            *sizes,
            np.int32(radius),
        ),
    )
    _cuda.launch(
        "quickshift",
        "quickshift_parent",
        defines={},
        grid=tiles,
        block=tile,
        arguments=(parent, points, density, *sizes, np.int32(_reach(radius, max_dist)), np.float64(_longest(max_dist))),
    )
    block = 256
    _cuda.launch(
        "quickshift",
        "quickshift_root",
        defines={},
        grid=(-(-height * width // block), batch, 1),
        block=(block, 1, 1),
        arguments=(root, parent, np.int32(height * width)),
    )
    return _rank(root).view(batch, height, width)
