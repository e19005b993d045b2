"""quickshift against scikit-image, and against one exponential a pair of pixels.

Work: from uint8 to labels, 224 x 224 crops of the photographs that scikit-image ships, settings of the `lime` package;
on one and two threads of the CPU, or many pictures a call on a GPU. scikit-image runs on one thread.

Limit: torch's vectorised float64 `exp` on as many numbers as there are pairs of pixels in a window of each other, on
the same threads or GPU, in pieces that stay in the cache. The CPU form does one such evaluation a pair.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data
from skimage.segmentation import quickshift as peer_quickshift

from fastxai.ops import quickshift

SIDE, PIECE = 224, 1 << 16
KERNEL_SIZE, MAX_DIST, RATIO = 4, 200, 0.2
RADIUS = 3 * KERNEL_SIZE


def pairs() -> int:
    """Unordered pairs of pixels of one picture that lie in a window of each other."""
    reach = sum(SIDE - abs(d) for d in range(-RADIUS, RADIUS + 1))
    return (reach * reach - SIDE * SIDE) // 2


def photographs() -> list[np.ndarray]:
    found = [data.cat(), data.coffee(), data.rocket(), data.astronaut()]
    return [np.ascontiguousarray(pixels[50 : 50 + SIDE, 60 : 60 + SIDE]) for pixels in found]


@pytest.mark.parametrize("threads", [1, 2])
def test_quickshift(measure, device, threads):
    if device.type != "cpu" and threads > 1:
        pytest.skip("threads of the CPU do not matter to a GPU")
    photos = photographs()
    batch = len(photos) * (1 if device.type == "cpu" else 16)
    pictures = torch.stack([torch.from_numpy(photos[n % len(photos)]).permute(2, 0, 1) for n in range(batch)]).to(
        device
    )
    piece = -torch.rand(PIECE if device.type == "cpu" else pairs(), dtype=torch.float64, device=device)
    out = torch.empty_like(piece)

    def op() -> torch.Tensor:
        return quickshift(pictures, kernel_size=KERNEL_SIZE, max_dist=MAX_DIST, ratio=RATIO)

    def peer() -> list[np.ndarray]:
        return [peer_quickshift(p, kernel_size=KERNEL_SIZE, max_dist=MAX_DIST, ratio=RATIO) for p in photos]

    def limit() -> None:
        for _ in range(pairs() * batch // piece.numel()):
            torch.exp(piece, out=out)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for labels, wanted in zip(op().cpu().numpy(), peer(), strict=False):
            assert np.array_equal(labels, wanted)
        measure(
            "quickshift",
            f"{batch} photographs of 224x224, {threads} thread{'s' * (threads > 1)}",
            op,
            peer=("scikit-image", peer),
            limit=("one float64 exp a pair of pixels", limit),
            peer_calls=batch // len(photos),
            rounds=5,
        )
    finally:
        torch.set_num_threads(before)
