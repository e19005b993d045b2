"""Rows -> sums per image, in row order."""

from __future__ import annotations

import torch
from torch import Tensor

from fastxai.ops._checks import check_devices, check_index, check_tensor


def add_rows_(sums: Tensor, image: Tensor, rows: Tensor) -> Tensor:
    """sums[image[r]] += rows[r], one row after the other, in place.

    sums float32 [B, ...]; image int64 [R], which may be on the CPU (on a GPU, an index that is there has to be waited
    for); rows float32 [R, ...]. The order of addition is the order of the rows, so a sum does not depend on how its
    rows were cut into calls. Returns sums.
    """
    sizes: dict[str, int] = {}
    check_tensor("image", image, (torch.int64,), "R", sizes)
    check_tensor("sums", sums, (torch.float32,), "...", sizes)
    dims = " ".join(f"d{axis}" for axis in range(1, sums.dim()))
    check_tensor("sums", sums, (torch.float32,), f"B {dims}", sizes)
    check_tensor("rows", rows, (torch.float32,), f"R {dims}", sizes)
    device = check_devices(sums=sums, rows=rows)
    if image.device.type != "cpu":
        check_devices(sums=sums, image=image)
    check_index("image", image, sizes["B"])
    if device.type == "cpu":
        return sums.index_add_(0, image, rows)  # on the CPU: slice by slice, in order
    for row, b in enumerate(image.tolist()):  # on a GPU index_add_ uses atomics, whose order is not fixed
        sums[b] += rows[row]
    return sums
