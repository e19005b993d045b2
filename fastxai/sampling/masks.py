"""Smooth random masks: coarse grids of coin flips, grown to more than the picture's size and cropped at random."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fastxai import ops
from fastxai.transfer import on_device

MASK = 4  # stream of the counter; the method is in the key
_STEPS = 2048  # mask values per axis: so few bits that no product or sum of them rounds, see `GridMasks`


@dataclass(frozen=True)
class GridMasks:
    """Masks of RISE for pictures of `size` (H, W): `cells` x `cells` coin flips that show with `probability`, resized
    bilinearly to (cells + 1) times `steps`, and cropped to the picture at one of `steps[0]` x `steps[1]` places. They
    are made on `device`.

    The bilinear weight of a neighbour is rounded to 1/2048 on each axis. A mask is then a sum of products of 11 bits,
    exact in float32: the same bits whatever order a matrix product adds in, on any device, for any number of rows.
    """

    size: tuple[int, int]
    cells: int
    probability: float
    device: torch.device

    @property
    def steps(self) -> tuple[int, int]:
        """Pixels of a cell, rounded up: over how many a mask is shifted."""
        return -(-self.size[0] // self.cells), -(-self.size[1] // self.cells)

    @cached_property
    def weights(self) -> tuple[Tensor, Tensor]:
        """What each of the grid's lines weighs at each pixel, by shift: float32 [step, H, cells], [step, W, cells]."""
        down, across = (axis_weights(length, self.cells, s) for length, s in zip(self.size, self.steps, strict=True))
        return down.to(self.device), across.to(self.device)

    def draws(self, keys: Tensor, image: Tensor, ordinal: Tensor) -> tuple[Tensor, Tensor]:
        """Coin flips float32 [R, cells, cells] in {0, 1} and shifts int64 [R, 2], down and right.

        On the device of the keys. They are a few numbers a row: drawn on the CPU, nothing waits for a GPU.
        """
        count = self.cells**2
        words = ops.random_words(keys, image, ordinal, count + 2, MASK)
        grids = (ops.uniforms(words[:, :count]) < self.probability).float().reshape(-1, self.cells, self.cells)
        unsigned = words[:, count:].to(torch.int64) & 0xFFFFFFFF
        return grids, torch.stack([(unsigned[:, axis] * step) >> 32 for axis, step in enumerate(self.steps)], dim=1)

    def grow(self, grids: Tensor, shifts: Tensor) -> Tensor:
        """The masks of such draws: float32 [R, H, W] in 0..1."""
        down, across = self.weights
        grids, shifts = on_device(grids, self.device), on_device(shifts, self.device)
        return torch.bmm(torch.bmm(down[shifts[:, 0]], grids), across[shifts[:, 1]].transpose(1, 2))

    def sum_up(self, sums: Tensor) -> Tensor:
        """Sums of grids by shift, [step, step, cells, cells], -> the sum of their masks, float32 [H, W].

        A mask is linear in its grid, so that grids can be added up in place of masks of full size. In float64.
        """
        down, across = (part.double() for part in self.weights)
        left = down.transpose(0, 1).flatten(1)  # [H, step * cells]
        right = across.transpose(0, 1).flatten(1)
        middle = sums.double().permute(0, 2, 1, 3).reshape(left.shape[1], right.shape[1])
        return (left @ middle @ right.T).float()


def axis_weights(length: int, cells: int, step: int) -> Tensor:
    """Bilinear interpolation of `cells` values to (cells + 1) * step, cropped to `length`, along one axis.

    float32 [step, length, cells]: entry [d, i, c] is the weight of value c at pixel d + i, in whole 2048ths. Centres
    of pixels are kept in place and the ends continued (torch's align_corners=False).
    """
    place = ((torch.arange((cells + 1) * step, dtype=torch.float64) + 0.5) * cells / ((cells + 1) * step) - 0.5).clamp(
        0, cells - 1
    )
    low = place.floor().long()
    upper = ((place - low) * _STEPS).round() / _STEPS
    full = torch.zeros(len(place), cells, dtype=torch.float64)
    full.scatter_add_(1, low.unsqueeze(1), (1 - upper).unsqueeze(1))
    full.scatter_add_(1, (low + 1).clamp_max(cells - 1).unsqueeze(1), upper.unsqueeze(1))
    return torch.stack([full[d : d + length] for d in range(step)]).float()
