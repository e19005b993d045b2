"""What the layers' own ways back share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def differentiates_input_only(input: Tensor, weight: Tensor | None) -> bool:
    """Whether an image's [N, C, H, W] gradient is all that is asked for."""
    return input.requires_grad and input.ndim == 4 and (weight is None or not weight.requires_grad)


def pair(value: Any) -> tuple[int, int]:
    """An option of a layer, given as one number or as one for rows and one for columns."""
    if isinstance(value, int):
        return value, value
    first, *rest = value
    return int(first), int(rest[0] if rest else first)


def weave(
    part: Callable[[int, int], Tensor], stride: tuple[int, int], padding: tuple[int, int], shape: torch.Size
) -> Tensor:
    """An image of `shape` [N, C, H, W], without the `padding` around it, from its pixels `stride` apart.

    part: the pixels (s a + i, t b + j) of the padded image for all a, b: [N, C, A, B]. Those that it does not reach
    are zero.
    """
    size = [-(-(p + side) // s) for p, side, s in zip(padding, shape[2:], stride, strict=True)]
    rows = []
    for i in range(stride[0]):
        columns = []
        for j in range(stride[1]):
            pixels = part(i, j)
            missing = [max(0, want - have) for want, have in zip(size, pixels.shape[2:], strict=True)]
            if any(missing):
                pixels = F.pad(pixels, (0, missing[1], 0, missing[0]))
            columns.append(pixels[:, :, : size[0], : size[1]].permute(0, 2, 3, 1))
        rows.append(torch.stack(columns, dim=3))
    canvas = torch.stack(rows, dim=2).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
    top, left = padding
    return canvas[:, :, top : top + shape[2], left : left + shape[3]]
