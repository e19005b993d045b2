"""normalize against the same formula with Python numbers, in place, and against moving its bytes once."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.timing import copier, size_in_bytes
from fastxai.ops import normalize

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_normalize(measure, device):
    batch, side = (16 if device.type == "cpu" else 256), 224
    pictures = torch.randint(0, 256, (batch, 3, side, side), generator=torch.Generator().manual_seed(0))
    pictures = pictures.to(torch.uint8).to(device)
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (MEAN, STD))

    def peer() -> Tensor:
        return pictures.float().div_(255.0).sub_(mean).div_(std)

    out = normalize(pictures, MEAN, STD)
    # A GPU multiplies by the reciprocal of a Python number: float32 rounding of numbers up to 3.
    torch.testing.assert_close(out, peer(), rtol=0, atol=1e-6)
    measure(
        "normalize",
        f"{batch} pictures of 224x224",
        lambda: normalize(pictures, MEAN, STD),
        peer=("in-place torch", peer),
        limit=("a copy of as many bytes", copier(size_in_bytes(pictures, out), device)),
    )
