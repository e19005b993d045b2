"""SLIC superpixels, with the labels that scikit-image gives.

    distance(p, k) = |colour(p) - colour(k)|^2 / compactness^2 + |place(p) - place(k)|^2 / step^2

A pixel belongs to the centre at the least distance among those within two steps of it, the first of equals; a centre
moves to the mean of its pixels; `iterations` times, from a regular grid. Then connected components become the segments:
small ones join a neighbour, large ones are cut. Colours are Lab of the picture stretched to its darkest and brightest
byte. Achanta, Shaji, Smith, Lucchi, Fua, Suesstrunk, "SLIC Superpixels Compared to State-of-the-Art Superpixel Methods"
(TPAMI 2012).

All sums are float64 in the order of scikit-image. On the CPU that gives its labels to the pixel where its own build
rounds every operation (x86-64); where a compiler fuses multiply and add (arm64), or Lab is rounded otherwise (a GPU:
1e-11), pixels about as far from two centres may go to the other one.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastxai.config import check_float, check_int
from fastxai.ops import _cuda, _slic_colours, _slic_loops
from fastxai.ops._checks import check_devices, check_not_empty, check_tensor, choose, default_for

SMALLEST, LARGEST = 0.5, 3  # sizes of connected segments, in shares of the mean one: scikit-image's defaults


def slic(
    pictures: Tensor,
    *,
    segments: int = 100,
    compactness: float = 10.0,
    sigma: float = 0.0,
    iterations: int = 10,
    implementation: str | None = None,
) -> Tensor:
    """Segments by k-means on colour and place, connected.

    pictures uint8 [B, 3, H, W], RGB; segments >= 1: how many are aimed at; compactness > 0, units of Lab that weigh as
    much as a step of the grid; sigma >= 0, of the blur before, in pixels; iterations >= 1. Returns labels int32
    [B, H, W], 0..S-1 in the raster order of their first pixels. A picture's labels do not depend on the others in the
    call. The reference is scikit-image itself, one picture after the other on the CPU.
    """
    check_tensor("pictures", pictures, (torch.uint8,), "B 3 H W", {})
    segments = check_int("segments", segments, 1)
    compactness = check_float("compactness", compactness, 1e-100)  # squares must stay within float64
    sigma = check_float("sigma", sigma, 0.0)
    iterations = check_int("iterations", iterations, 1)
    device = check_devices(pictures=pictures)
    default = default_for(device, cpu="numba", cuda="cuda")
    default = "scikit-image" if default == "torch" else default
    chosen = choose(implementation, default, ("scikit-image", "numba", "cuda"))
    if pictures.shape[0] == 0:
        return torch.empty(0, *pictures.shape[2:], dtype=torch.int32, device=device)
    check_not_empty("pictures", pictures)
    if chosen == "scikit-image":
        return _scikit_image(pictures, segments, compactness, sigma, iterations)
    run = _numba if chosen == "numba" else _kernel
    grid = _grid(*pictures.shape[2:], segments)
    return run(_slic_colours.colours(pictures, compactness, sigma), grid, iterations)


class _Grid(NamedTuple):
    """Where centres start, and the sizes that follow from their number."""

    centres: Tensor  # float64 [K, 5]: no colour yet, row, column
    step_y: int  # of the windows
    step_x: int
    weight: float  # of squared pixels: 1 / step^2
    smallest: int  # pixels of a connected segment
    largest: int


@functools.lru_cache(maxsize=64)
def _grid(height: int, width: int, segments: int) -> _Grid:
    from skimage.util import regular_grid

    def steps(count: int) -> tuple[tuple[slice, ...], list[int]]:
        axes = regular_grid((1, height, width), count)  # a depth of one pixel, which has a share in the spacing
        return axes, [1 if axis.step is None else int(axis.step) for axis in axes]

    axes, spacing = steps(segments)
    rows, columns = np.arange(height)[axes[1]], np.arange(width)[axes[2]]
    centres = np.zeros((len(rows), len(columns), 5))
    centres[..., 3], centres[..., 4] = rows[:, None], columns
    count = len(rows) * len(columns)
    # Windows are those of a grid for as many centres as there are, which may differ from what was asked for.
    _, (_, step_y, step_x) = steps(count)
    size = height * width / count
    step = np.float32(max(spacing))  # as there
    return _Grid(
        torch.from_numpy(centres.reshape(count, 5)),
        step_y,
        step_x,
        1.0 / float(step * step),
        int(SMALLEST * size),
        int(LARGEST * size),
    )


def _scikit_image(pictures: Tensor, segments: int, compactness: float, sigma: float, iterations: int) -> Tensor:
    from skimage.segmentation import slic as peer

    labels = [
        peer(
            np.ascontiguousarray(picture.permute(1, 2, 0).numpy()),
            n_segments=segments,
            compactness=compactness,
            sigma=sigma,
            max_num_iter=iterations,
            start_label=0,
        )
        for picture in pictures.cpu()
    ]
    return torch.from_numpy(np.stack(labels).astype(np.int32)).to(pictures.device)


def _numba(points: Tensor, grid: _Grid, iterations: int) -> Tensor:
    batch, _, height, width = points.shape
    labels = np.empty((batch, height, width), np.int32)
    _slic_loops.cluster(
        labels,
        points.numpy(),
        grid.centres.numpy(),
        iterations,
        grid.step_y,
        grid.step_x,
        grid.weight,
        grid.smallest,
        grid.largest,
    )
    return torch.from_numpy(labels)


def _kernel(points: Tensor, grid: _Grid, iterations: int) -> Tensor:
    batch, _, height, width = points.shape
    device, count = points.device, grid.centres.shape[0]
    centres = grid.centres.to(device).repeat(batch, 1, 1)
    nearest = torch.zeros(batch, height, width, dtype=torch.int32, device=device)
    nothing = torch.tensor([height, width, -1, -1], dtype=torch.int32).to(device, non_blocking=True)
    boxes = nothing.repeat(batch, count, 1)
    sizes = (np.int32(height), np.int32(width), np.int32(count))
    tile, block = 16, 128
    for turn in range(iterations):
        if turn:
            _cuda.launch(
                "slic",
                "slic_update",
                defines={},
                grid=(count, batch, 1),
                block=(block, 1, 1),
                arguments=(centres, boxes, nearest, points, *sizes),
            )
        _cuda.launch(
            "slic",
            "slic_assign",
            defines={},
            grid=(-(-width // tile), -(-height // tile), batch),
            block=(tile, tile, 1),
            arguments=(
                nearest,
                boxes,
                points,
                centres,
                *sizes,
                np.int32(grid.step_y),
                np.int32(grid.step_x),
                np.float64(grid.weight),
            ),
        )
    labels = nearest.bitwise_not_()
    queue = torch.empty(batch, grid.largest, dtype=torch.int32, device=device)
    _cuda.launch(
        "slic",
        "slic_connect",
        defines={},
        grid=(batch, 1, 1),
        block=(1, 1, 1),
        arguments=(labels, queue, *sizes[:2], np.int32(grid.smallest), np.int32(grid.largest)),
    )
    return labels
