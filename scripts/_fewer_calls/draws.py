"""Parts of a long run, drawn as the samplers draw: without repeats, by a seed."""

from __future__ import annotations

import torch
from torch import Tensor

from fastxai import sampling


class LimeDraw:
    """Rows of one seed from a long run of all segments and pairs z, 1 - z. rows [n] are places in the long run."""

    def __init__(self, rows: int, seed: int) -> None:
        self.pairs, self.generator = (rows - 1) // 2, torch.Generator().manual_seed(seed)
        self.order = torch.randperm(self.pairs, generator=self.generator)
        self.side = torch.randint(0, 2, (self.pairs,), generator=self.generator)

    def plain(self, n: int) -> Tensor:
        """All segments, and n - 1 fair draws: of every pair one, whichever."""
        first = self.order[: n - 1]
        return torch.cat([torch.zeros(1, dtype=torch.int64), 1 + 2 * first + self.side[: n - 1]])

    def paired(self, n: int) -> Tensor:
        """All segments, and pairs."""
        first = self.order[: n // 2]
        return torch.cat([torch.zeros(1, dtype=torch.int64), (1 + 2 * first[:, None] + torch.arange(2)).flatten()])[:n]

    def rest(self, pairs: int) -> Tensor:
        """The long run without the first pairs of this seed."""
        used = torch.zeros(self.pairs, dtype=torch.bool)
        used[self.order[:pairs]] = True
        return torch.cat([torch.tensor([True]), ~used.repeat_interleave(2)]).nonzero().flatten()


class ShapDraw:
    """Rows of one seed from a long run of `sampling.shapley_coalitions`, of every size as many as the sampler takes."""

    def __init__(self, kept: Tensor, seed: int) -> None:
        self.kept, generator = kept, torch.Generator().manual_seed(seed)
        self.segments = kept.shape[1]
        half = kept[2::2].sum(1)
        self.of_size = torch.minimum(half, self.segments - half)
        places = torch.arange(len(half))[torch.randperm(len(half), generator=generator)]
        self.by_size = {size: places[self.of_size[places] == size] for size in self.of_size.unique().tolist()}

    def rows(self, n: int) -> Tensor:
        """All segments, none, and pairs."""
        taken = dict.fromkeys(self.by_size, 0)
        found = [0, 1]
        for size in sampling.shapley_sizes(self.segments, (n - 1) // 2).tolist():
            place = int(self.by_size[size][taken[size]])
            taken[size] += 1
            found += [2 + 2 * place, 3 + 2 * place]
        return torch.tensor(found[:n])

    def weights(self, rows: Tensor) -> Tensor:
        """As the sampler weighs these rows, float64 [n]: a size's share of the Shapley kernel, even on its rows."""
        each = self.kept[rows].sum(1)
        inner = (each > 0) & (each < self.segments)
        times = each.bincount(minlength=self.segments + 1)[each]
        return torch.where(inner, 1.0 / (each * (self.segments - each) * times).clamp_min(1).double(), 0.0)
