"""The lasso, against its own conditions of optimality and a naive twin."""

import numpy as np
import pytest
import torch

from fastxai import sampling, solve
from fastxai.errors import CannotRun


def problem(counts=(5, 12), samples=80):
    generator = torch.Generator().manual_seed(0)
    kept = torch.rand(len(counts), samples, max(counts), generator=generator) < 0.5
    for image, count in enumerate(counts):
        kept[image, :, count:] = False
    effects = torch.randn(len(counts), max(counts), 3, generator=generator)
    values = kept.float() @ effects + torch.randn(len(counts), samples, 3, generator=generator) / 10
    weights = torch.rand(len(counts), samples, generator=generator).double() + 0.1
    return kept, weights, values, torch.tensor(counts)


def coordinate_descent(x, y, w, alpha):
    """One coefficient after the other until nothing moves: the textbook's twin."""
    w = w / w.sum() * len(w)
    x, y = x - np.average(x, axis=0, weights=w), y - np.average(y, weights=w)
    beta = np.zeros(x.shape[1])
    for _ in range(500):
        for j in range(len(beta)):
            rho = (w * x[:, j] * (y - x @ beta + x[:, j] * beta[j])).sum() / len(w)
            beta[j] = np.sign(rho) * max(abs(rho) - alpha, 0) / ((w * x[:, j] ** 2).sum() / len(w))
    return beta


@pytest.mark.parametrize("alpha", [1e-3, 0.1])
def test_agrees_with_coordinate_descent(alpha):
    kept, weights, values, counts = problem()
    fit = solve.weighted_lasso(sampling.pack(kept), weights, values, counts, alpha)
    for image, count in enumerate(counts.tolist()):
        x = kept[image, :, :count].double().numpy()
        for target in range(3):
            y = values[image, :, target].double().numpy()
            naive = coordinate_descent(x, y, weights[image].numpy(), alpha)
            # scikit-learn stops at a duality gap of 1e-4 of the values' squares
            np.testing.assert_allclose(fit.weights[image, target, :count].numpy(), naive, atol=2e-3)
            assert ((fit.weights[image, target, :count].numpy() == 0) == (naive == 0)).all()
            w = weights[image].numpy()
            mean = np.average(y - x @ naive, weights=w)
            assert fit.intercept[image, target].item() == pytest.approx(mean, abs=5e-3)
            whole = fit.intercept[image, target] + fit.weights[image, target, :count].sum()
            assert fit.local_pred[image, target].item() == pytest.approx(whole.item(), abs=1e-5)
            residual = np.average((y - mean - x @ naive) ** 2, weights=w)
            spread = np.average((y - np.average(y, weights=w)) ** 2, weights=w)
            assert fit.score[image, target].item() == pytest.approx(1 - residual / spread, abs=1e-3)
        assert torch.isnan(fit.weights[image, :, count:]).all()


def test_a_strong_penalty_leaves_nothing_and_a_weak_one_the_least_squares():
    kept, weights, values, counts = problem()
    assert not solve.weighted_lasso(sampling.pack(kept), weights, values, counts, 100.0).weights.nan_to_num().any()
    weak = solve.weighted_lasso(sampling.pack(kept), weights, values, counts, 1e-9)
    squares = solve.weighted_ridge(sampling.pack(kept), weights, values, counts, 1e-9)
    assert torch.allclose(weak.weights, squares.weights, atol=2e-3, equal_nan=True)


def test_values_that_are_not_finite_spoil_their_own_target_only():
    kept, weights, values, counts = problem()
    good = solve.weighted_lasso(sampling.pack(kept), weights, values, counts, 0.01)
    values[0, 3, 1] = float("nan")
    fit = solve.weighted_lasso(sampling.pack(kept), weights, values, counts, 0.01)
    assert torch.isnan(fit.weights[0, 1]).all() and torch.isnan(fit.score[0, 1])
    assert torch.equal(fit.weights[0, 2, :5], good.weights[0, 2, :5]) and torch.equal(fit.score[1], good.score[1])


def test_a_missing_package_says_what_to_install(monkeypatch):
    kept, weights, values, counts = problem()
    monkeypatch.setitem(__import__("sys").modules, "sklearn.linear_model", None)
    with pytest.raises(CannotRun, match=r"pip install 'fastxai\[interop\]'"):
        solve.weighted_lasso(sampling.pack(kept), weights, values, counts, 0.1)
