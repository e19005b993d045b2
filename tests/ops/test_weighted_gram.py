"""weighted_gram: against sums in exact rationals and dense numpy products; the batch must not matter, in any bit."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.ops import unpack, weighted_gram

FORMS = ["torch", "numba", "cuda"]


def draw(batch, rows, segments, targets, seed=0, words=None):
    g = torch.Generator().manual_seed(seed)
    words = words or -(-segments // 32)
    coalitions = torch.randint(-(2**31), 2**31, (batch, rows, words), generator=g).to(torch.int32)
    weights = torch.rand(batch, rows, generator=g)
    values = torch.randn(batch, rows, targets, generator=g)
    counts = torch.randint(1, segments + 1, (batch,), generator=g)
    counts[batch // 2] = segments
    return coalitions, weights, values, counts


def design(coalitions, count, most):
    """float64 [n, S + 1] of one image."""
    x = np.zeros((coalitions.shape[0], most + 1))
    for r, row in enumerate(coalitions.tolist()):
        for s in range(count):
            x[r, s] = (row[s // 32] & 0xFFFFFFFF) >> (s % 32) & 1
    x[:, most] = 1
    return x


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("batch", "rows", "segments", "targets"), [(1, 1, 1, 1), (3, 19, 31, 2), (2, 111, 33, 5), (1, 40, 500, 1)]
)
def test_equals_dense_products(host_gpu, form, batch, rows, segments, targets):
    coalitions, weights, values, counts = draw(batch, rows, segments, targets)
    found = weighted_gram(coalitions, weights, values, counts, implementation=form)
    assert found.gram.dtype == found.rhs.dtype == found.total.dtype == torch.float64
    for b in range(batch):
        x = design(coalitions[b], int(counts[b]), segments)
        w, y = weights[b].double().numpy(), values[b].double().numpy()
        # Sums of at most 111 float64 terms in another order: 111 * 1e-16 of the sum of magnitudes.
        np.testing.assert_allclose(found.gram[b].numpy(), x.T @ (w[:, None] * x), rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.rhs[b].numpy(), x.T @ (w[:, None] * y), rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.total[b].numpy(), (w[:, None] * y * y).sum(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_equals_exact_sums_where_there_is_nothing_to_round(host_gpu, form):
    """Weights and values with few bits: every sum is exact in float64, so both forms must hit it."""
    coalitions, weights, values, counts = draw(2, 50, 20, 3)
    weights, values = (weights * 64).round() / 64, (values * 16).round() / 16
    found = weighted_gram(coalitions, weights, values, counts, implementation=form)
    for b in range(2):
        x = design(coalitions[b], int(counts[b]), 20).astype(int).tolist()
        w = [Fraction(v) for v in weights[b].tolist()]
        y = [[Fraction(v) for v in row] for row in values[b].tolist()]
        gram = [[sum(w[r] * x[r][i] * x[r][j] for r in range(50)) for j in range(21)] for i in range(21)]
        rhs = [[sum(w[r] * x[r][i] * y[r][k] for r in range(50)) for k in range(3)] for i in range(21)]
        assert found.gram[b].tolist() == [[float(v) for v in row] for row in gram]
        assert found.rhs[b].tolist() == [[float(v) for v in row] for row in rhs]
        assert found.total[b].tolist() == [float(sum(w[r] * y[r][k] ** 2 for r in range(50))) for k in range(3)]


@pytest.mark.parametrize(
    ("batch", "rows", "segments", "targets"),
    [(1, 1, 1, 1), (3, 19, 31, 2), (2, 111, 65, 5), (2, 70, 32, 17), (1, 9, 500, 1), (2, 5, 40, 0), (2, 0, 5, 2)],
)
def test_kernel_and_loop_agree_in_every_bit(host_gpu, batch, rows, segments, targets):
    """Both add four rows to a partial sum and the partial sums in order: nothing is left to differ."""
    arguments = draw(batch, rows, segments, targets, seed=rows, words=-(-segments // 32) + 1)
    loop = weighted_gram(*arguments, implementation="numba")
    kernel = weighted_gram(*arguments, implementation="cuda")
    assert host_gpu == ["weighted_gram"]
    for name in ("gram", "rhs", "total"):
        assert torch.equal(getattr(kernel, name), getattr(loop, name)), name


# One kernel that stands in for a GPU's serves all examples.
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=st.integers(1, 4),
    rows=st.integers(0, 21),
    segments=st.sampled_from([1, 2, 31, 32, 33, 64, 70]),
    targets=st.integers(0, 4),
    spare=st.integers(0, 2),
    double=st.booleans(),
    ways=st.tuples(*[st.integers(0, 3)] * 4),
    seed=st.integers(0, 2**31),
)
def test_forms_hold_to_the_reference(relaid, host_gpu, batch, rows, segments, targets, spare, double, ways, seed):
    coalitions, weights, values, counts = draw(
        batch, rows, segments, targets, seed=seed, words=-(-segments // 32) + spare
    )
    weights[:, ::3] = 0  # rows that count for nothing
    if double:
        weights, values = weights.double() * math.pi, values.double() * math.pi
    inputs = [relaid(tensor, way) for tensor, way in zip((coalitions, weights, values, counts), ways, strict=True)]
    dense, loop, kernel = (weighted_gram(*inputs, implementation=form) for form in FORMS)
    for name in ("gram", "rhs", "total"):
        assert torch.equal(getattr(loop, name), getattr(kernel, name)), name
        # at most 21 float64 terms of order 10, added in another order
        torch.testing.assert_close(getattr(loop, name), getattr(dense, name), rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ["numba", "cuda"])
def test_a_nan_stays_with_its_target(host_gpu, form):
    coalitions, weights, values, counts = draw(2, 30, 40, 3)
    clean = weighted_gram(coalitions, weights, values, counts, implementation=form)
    values[1, 7, 2] = float("nan")
    found = weighted_gram(coalitions, weights, values, counts, implementation=form)
    assert torch.equal(found.gram, clean.gram)
    assert torch.equal(found.rhs[..., :2], clean.rhs[..., :2])
    assert torch.equal(found.rhs[0], clean.rhs[0])
    assert found.rhs[1, -1, 2].isnan()
    assert found.total[1].isnan().tolist() == [False, False, True]


def test_the_batch_does_not_matter():
    coalitions, weights, values, counts = draw(6, 200, 50, 3, seed=4)
    counts[:] = torch.tensor([7, 50, 31, 32, 33, 1])
    together = weighted_gram(coalitions, weights, values, counts)
    order = torch.tensor([5, 2, 0, 3, 1, 4])
    shuffled = weighted_gram(coalitions[order], weights[order], values[order], counts[order])
    for place, b in enumerate(order.tolist()):
        s = int(counts[b])
        alone = weighted_gram(coalitions[b : b + 1], weights[b : b + 1], values[b : b + 1], counts[b : b + 1])
        own = torch.cat((torch.arange(s), torch.tensor([50])))
        assert torch.equal(together.gram[b][own][:, own], alone.gram[0])
        assert torch.equal(together.rhs[b][own], alone.rhs[0])
        assert torch.equal(together.total[b], alone.total[0])
        assert not together.gram[b, s:50].any()
        assert not together.gram[b, :, s:50].any()
        assert not together.rhs[b, s:50].any()
        for name in ("gram", "rhs", "total"):
            assert torch.equal(getattr(shuffled, name)[place], getattr(together, name)[b])


def test_threads_and_spare_words_do_not_matter():
    coalitions, weights, values, counts = draw(5, 100, 40, 2)
    threads = torch.get_num_threads()
    try:
        got = []
        for count in (1, 2):
            torch.set_num_threads(count)
            got.append(weighted_gram(coalitions, weights, values, counts))
    finally:
        torch.set_num_threads(threads)
    spare = torch.cat((coalitions, torch.full((5, 100, 2), -1, dtype=torch.int32)), -1)
    got.append(weighted_gram(spare, weights, values, counts))
    for other in got[1:]:
        assert torch.equal(other.gram, got[0].gram)
        assert torch.equal(other.rhs, got[0].rhs)
        assert torch.equal(other.total, got[0].total)


def test_symmetric_and_the_constant_counts_the_weights():
    coalitions, weights, values, counts = draw(2, 60, 45, 2)
    found = weighted_gram(coalitions, weights.double(), values, counts)
    assert torch.equal(found.gram, found.gram.mT)
    assert torch.equal(found.gram[:, -1, :-1], found.gram.diagonal(dim1=1, dim2=2)[:, :-1])
    # 60 terms of float64
    torch.testing.assert_close(found.gram[:, -1, -1], weights.double().sum(1), rtol=1e-14, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_inputs_need_not_be_contiguous(host_gpu, form):
    coalitions, weights, values, counts = draw(3, 30, 40, 2)
    wanted = weighted_gram(coalitions, weights, values, counts, implementation=form)
    got = weighted_gram(
        coalitions.transpose(1, 2).contiguous().transpose(1, 2),
        weights.t().contiguous().t(),
        values.transpose(0, 2).contiguous().transpose(0, 2),
        torch.stack((counts, counts), 1)[:, 0],
        implementation=form,
    )
    torch.testing.assert_close(got.gram, wanted.gram, rtol=1e-14, atol=1e-14)  # sums of 30 float64 terms
    torch.testing.assert_close(got.rhs, wanted.rhs, rtol=1e-14, atol=1e-14)


def test_a_ridge_fit_recovers_an_additive_score():
    coalitions, weights, _, _ = draw(1, 400, 30, 1)
    truth = torch.linspace(-1, 1, 30, dtype=torch.float64)
    values = (unpack(coalitions, 30).double() @ truth + 0.25).float()[..., None]
    found = weighted_gram(coalitions, weights, values, torch.tensor([30]))
    fitted = torch.linalg.solve(found.gram[0], found.rhs[0])[:, 0]
    # Values carry float32 rounding (1e-7 of sums up to 8), averaged over 400 rows.
    torch.testing.assert_close(fitted, torch.cat((truth, truth.new_tensor([0.25]))), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"coalitions": torch.zeros(2, 3, 1)}, ArgumentError, "coalitions must be int32"),
        ({"coalitions": [[[1]]]}, ArgumentTypeError, "coalitions must be a tensor, got list"),
        ({"weights": torch.zeros(2, 4)}, ArgumentError, r"weights must be float32 or float64 \[B=2, n=3\]"),
        ({"weights": torch.zeros(2, 3).half()}, ArgumentError, "weights must be float32 or float64"),
        ({"weights": torch.zeros(2, 3, device="meta")}, ArgumentError, "weights must be on cpu like coalitions"),
        ({"values": torch.zeros(2, 3)}, ArgumentError, "values must be float32"),
        ({"values": torch.zeros(2, 3, 1).bfloat16()}, ArgumentError, "values must be float32 or float64"),
        ({"values": torch.zeros(2, 3, 1, device="meta")}, ArgumentError, "values must be on cpu like coalitions"),
        ({"counts": torch.tensor([1, 33])}, ArgumentError, "counts must be between 1 and 32"),
        ({"counts": torch.tensor([0, 3])}, ArgumentError, "counts must be between 1 and 32"),
        ({"counts": torch.tensor([3])}, ArgumentError, r"counts must be int64 \[B=2\]"),
        ({"counts": torch.tensor([1, 2], dtype=torch.int32)}, ArgumentError, "counts must be int64"),
        ({"implementation": "numpy"}, ArgumentError, "implementation must be one of torch, numba, cuda"),
    ],
)
def test_wrong_arguments(change, error, message):
    arguments = {
        "coalitions": torch.zeros(2, 3, 1, dtype=torch.int32),
        "weights": torch.zeros(2, 3),
        "values": torch.zeros(2, 3, 1),
        "counts": torch.tensor([4, 5]),
    }
    weighted_gram(**arguments)
    with pytest.raises(error, match=message):
        weighted_gram(**{**arguments, **change})
