"""weighted_gram + solve against torch.bmm on dense float32 rows + one batched Cholesky.

The peer gets its dense rows for nothing. Ours starts at packed bits, sums and solves in float64; the limit is that of
the products alone, at the speed of a large float64 matrix product on the same device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.timing import size_in_bytes
from fastxai.ops import unpack, weighted_gram
from fastxai.solve import weighted_ridge

IMAGES, ROWS, SEGMENTS, TARGETS = 32, 1000, 64, 5
WORK = f"{IMAGES} images x {ROWS} rows x {SEGMENTS} segments x {TARGETS} targets"


class Problem:
    def __init__(self, device: torch.device) -> None:
        g = torch.Generator().manual_seed(0)
        words = torch.randint(-(2**31), 2**31, (IMAGES, ROWS, SEGMENTS // 32), generator=g)
        self.coalitions = words.to(torch.int32).to(device)
        self.weights = (torch.rand(IMAGES, ROWS, generator=g) + 0.01).double().to(device)
        self.values = torch.rand(IMAGES, ROWS, TARGETS, generator=g).to(device)
        self.counts = torch.full((IMAGES,), SEGMENTS, device=device)
        dense = unpack(self.coalitions, SEGMENTS).float()
        self.dense = torch.nn.functional.pad(dense, (0, 1), value=1.0)
        self.weights32 = self.weights.float()
        self.penalty = torch.ones(SEGMENTS + 1, device=device)
        self.penalty[-1] = 0  # the constant is free
        # Multiplying as many numbers as the products of the Gram matrices: images * rows * size^2.
        self.side = round((IMAGES * ROWS * (SEGMENTS + 1) ** 2) ** (1 / 3))
        self.square = torch.rand(self.side, self.side, generator=g, dtype=torch.float64).to(device)

    def ours(self) -> Tensor:
        found = weighted_gram(self.coalitions, self.weights, self.values, self.counts)
        factor = torch.linalg.cholesky_ex(found.gram + torch.diag(self.penalty.double())).L
        return torch.cholesky_solve(found.rhs, factor)

    def peer(self) -> Tensor:
        weighted = self.dense * self.weights32[..., None]
        gram, rhs = torch.bmm(weighted.mT, self.dense), torch.bmm(weighted.mT, self.values)
        return torch.cholesky_solve(rhs, torch.linalg.cholesky_ex(gram + torch.diag(self.penalty)).L)

    def exact(self) -> Tensor:
        dense = self.dense.double()
        weighted = dense * self.weights[..., None]
        gram = weighted.mT @ dense + torch.diag(self.penalty.double())
        return torch.linalg.solve(gram, weighted.mT @ self.values.double())

    def product(self) -> Tensor:
        return self.square @ self.square


def test_weighted_gram_and_solve(measure, device, benchmark):
    problem = Problem(device)
    # The solution is of order 1; both are float64 sums and factorisations of a system with a condition below 1e4.
    torch.testing.assert_close(problem.ours(), problem.exact(), rtol=0, atol=1e-10)
    packed = size_in_bytes(problem.coalitions)
    dense = 2 * size_in_bytes(problem.dense)  # the rows, and the weighted rows
    benchmark.extra_info.update(row_bytes=packed, peer_row_bytes=dense)
    measure(
        "weighted_gram + solve",
        WORK,
        problem.ours,
        peer=("bmm + Cholesky, float32", problem.peer),
        limit=("the flops of float64 products", problem.product),
    )


def test_weighted_ridge(measure, device):
    """The whole fit as LIME uses it: centring, scores and ragged padding included."""
    problem = Problem(device)
    arguments = (problem.coalitions, problem.weights, problem.values, problem.counts)
    found = weighted_ridge(*arguments, alpha=1.0).weights
    # float32 results of order 0.1
    torch.testing.assert_close(found.double(), problem.exact()[:, :SEGMENTS].mT, rtol=0, atol=1e-6)
    measure(
        "weighted_ridge",
        WORK,
        lambda: weighted_ridge(*arguments, alpha=1.0),
        peer=("bmm + Cholesky, float32", problem.peer),
        limit=("the flops of float64 products", problem.product),
    )
