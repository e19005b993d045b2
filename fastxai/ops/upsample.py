"""Native CAM maps -> maps of the size of the picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fastxai.config import check_int
from fastxai.errors import ArgumentError
from fastxai.ops._checks import check_not_empty, check_tensor


def upsample(native: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """Bilinear interpolation with pixel centres kept in place (align_corners=False), as OpenCV and torch resize.

    native float32 [B, K, h, w]; size (H, W). Returns float32 [B, K, H, W]. A map's numbers do not depend on the
    others in the call. align_corners: keep the centres of the corner pixels in place instead.
    """
    check_tensor("native", native, (torch.float32,), "B K h w", {})
    if not isinstance(size, Sequence) or len(size) != 2:
        raise ArgumentError(f"size must be (H, W), got {size!r}")
    height, width = (check_int(f"size[{i}]", value, 1) for i, value in enumerate(size))
    batch, targets = native.shape[:2]
    if batch * targets == 0:
        return native.new_zeros(batch, targets, height, width)
    check_not_empty("native", native)
    planes = native.reshape(batch * targets, 1, *native.shape[2:]).contiguous()
    # On the CPU torch's loop rounds differently at different places of a batch, so that each plane gets its own call.
    parts = planes.split(1) if native.device.type == "cpu" else [planes]
    grown = [functional.interpolate(p, (height, width), mode="bilinear", align_corners=align_corners) for p in parts]
    return torch.cat(grown).reshape(batch, targets, height, width)
