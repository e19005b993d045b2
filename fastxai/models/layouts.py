"""How the positions of a picture lie in a layer's output, and how to read it as maps [B, D, h, w]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Maps [B, D, h, w]; with `last`, [B, h, w, D]; with `grid` (h, w), tokens [B, prefix + h * w, D].

    prefix: how many tokens before those of the grid belong to no position (class, distillation, register tokens).
    """

    last: bool = False
    grid: tuple[int, int] | None = None
    prefix: int = 0

    @property
    def form(self) -> str:
        """The shape it wants, for people."""
        if self.grid is None:
            return "[B, h, w, D]" if self.last else "[B, D, h, w]"
        height, width = self.grid
        before = f"{self.prefix} + " if self.prefix else ""
        return f"[B, {before}{height} * {width}, D]"

    def fits(self, tensor: Tensor) -> bool:
        """Whether an output has as many axes, and tokens, as this says."""
        if self.grid is None:
            return tensor.ndim == 4
        return tensor.ndim == 3 and tensor.shape[1] == self.prefix + self.grid[0] * self.grid[1]

    def maps(self, tensor: Tensor) -> Tensor:
        """An output, or a gradient with respect to it, as [B, D, h, w]; without the prefix."""
        if self.grid is not None:
            return tensor[:, self.prefix :].unflatten(1, self.grid).movedim(-1, 1)
        return tensor.movedim(-1, 1) if self.last else tensor

    def spread(self, positions: Tensor) -> Tensor:
        """Numbers of positions [h, w] in a shape that goes with outputs; zeros for the prefix."""
        if self.grid is not None:
            return torch.cat([positions.new_zeros(self.prefix), positions.flatten()])[None, :, None]
        return positions[None, :, :, None] if self.last else positions[None, None]


MAPS = Layout()
POSITIONS_FIRST = Layout(last=True)
