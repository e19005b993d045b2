"""slic against scikit-image, and against one pass over its distances.

Work: from uint8 to labels, 224 x 224 crops of the photographs that scikit-image ships, 100 segments, 10 iterations; on
one and two threads of the CPU, or many pictures a call on a GPU. scikit-image runs on one thread.

Limit: one vectorised float64 multiply-add of torch, which reads and writes a number as the comparison with the least
distance does, for every pixel, centre whose window holds it, and iteration, in pieces that stay in the cache.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data
from skimage.segmentation import slic as peer_slic

from fastxai.ops import slic
from fastxai.ops.slic import _grid

SIDE, PIECE = 224, 1 << 14
SEGMENTS, ITERATIONS = 100, 10


def distances() -> int:
    """Distances of one picture in one iteration, with the centres where they start."""
    grid = _grid(SIDE, SIDE, SEGMENTS)
    place = torch.arange(SIDE)[:, None]
    down, across = (
        ((place - grid.centres[:, axis]).abs() <= 2 * step).double()
        for axis, step in ((3, grid.step_y), (4, grid.step_x))
    )
    return int((down.sum(0) * across.sum(0)).sum())


def photographs() -> list[np.ndarray]:
    found = [data.cat(), data.coffee(), data.rocket(), data.astronaut()]
    return [np.ascontiguousarray(pixels[50 : 50 + SIDE, 60 : 60 + SIDE]) for pixels in found]


@pytest.mark.parametrize("threads", [1, 2])
def test_slic(measure, device, threads):
    if device.type != "cpu" and threads > 1:
        pytest.skip("threads of the CPU do not matter to a GPU")
    photos = photographs()
    batch = len(photos) * (1 if device.type == "cpu" else 64)
    pictures = torch.stack([torch.from_numpy(photos[n % len(photos)]).permute(2, 0, 1) for n in range(batch)]).to(
        device
    )
    count = distances()
    piece = torch.rand(PIECE if device.type == "cpu" else count, dtype=torch.float64, device=device)
    out = torch.zeros_like(piece)

    def op() -> torch.Tensor:
        return slic(pictures, segments=SEGMENTS, iterations=ITERATIONS)

    def peer() -> list[np.ndarray]:
        return [peer_slic(p, n_segments=SEGMENTS, max_num_iter=ITERATIONS, start_label=0) for p in photos]

    def limit() -> None:
        for _ in range(ITERATIONS * count * batch // piece.numel()):
            out.addcmul_(piece, piece)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for labels, wanted in zip(op().cpu().numpy(), peer(), strict=False):
            assert (labels == wanted).mean() >= 0.99
        measure(
            "slic",
            f"{batch} photographs of 224x224, {threads} thread{'s' * (threads > 1)}",
            op,
            peer=("scikit-image", peer),
            limit=("one float64 multiply-add a distance", limit),
            peer_calls=batch // len(photos),
            rounds=7,
        )
    finally:
        torch.set_num_threads(before)
