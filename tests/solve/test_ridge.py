import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as SklearnRidge

from fastxai import sampling, solve


def problem(seed, counts, samples, targets):
    generator = torch.Generator().manual_seed(seed)
    most = max(counts)
    kept = torch.rand(len(counts), samples, most, generator=generator) < 0.5
    for image, count in enumerate(counts):
        kept[image, :, count:] = False
        kept[image, 0, :count] = True
    values = torch.rand(len(counts), samples, targets, generator=generator)
    weights = torch.rand(len(counts), samples, generator=generator).double() + 0.01
    return kept, weights, values, torch.tensor(counts)


@pytest.mark.parametrize("alpha", [1e-6, 1.0, 50.0])
def test_agrees_with_sklearn(alpha):
    kept, weights, values, counts = problem(0, [1, 7, 33, 64], 200, 3)
    fit = solve.weighted_ridge(sampling.pack(kept), weights, values, counts, alpha)
    for image, count in enumerate(counts.tolist()):
        x = kept[image, :, :count].numpy().astype(float)
        for target in range(3):
            y = values[image, :, target].double().numpy()
            peer = SklearnRidge(alpha=alpha).fit(x, y, sample_weight=weights[image].numpy())
            # float64 on both sides; only the last cast to float32 differs
            np.testing.assert_allclose(fit.weights[image, target, :count].numpy(), peer.coef_, rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(fit.intercept[image, target].item(), peer.intercept_, rtol=1e-5)
            score = peer.score(x, y, sample_weight=weights[image].numpy())
            np.testing.assert_allclose(fit.score[image, target].item(), score, atol=1e-6)
            whole = peer.predict(np.ones((1, count)))[0]
            np.testing.assert_allclose(fit.local_pred[image, target].item(), whole, rtol=1e-5)
        assert torch.isnan(fit.weights[image, :, count:]).all()


def test_an_image_does_not_feel_the_others():
    kept, weights, values, counts = problem(1, [40, 3, 90, 17, 40], 150, 2)
    together = solve.weighted_ridge(sampling.pack(kept), weights, values, counts, 1.0)
    for image, count in enumerate(counts.tolist()):
        one = slice(image, image + 1)
        alone = solve.weighted_ridge(sampling.pack(kept[one, :, :count]), weights[one], values[one], counts[one], 1.0)
        assert torch.equal(alone.weights[0], together.weights[image, :, :count])
        for name in ("intercept", "score", "local_pred"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[image])


def test_nan_stays_with_its_image_and_target():
    kept, weights, values, counts = problem(2, [9, 9], 60, 2)
    clean = solve.weighted_ridge(sampling.pack(kept), weights, values, counts, 1.0)
    values[0, 5, 1] = float("nan")
    fit = solve.weighted_ridge(sampling.pack(kept), weights, values, counts, 1.0)
    assert torch.isnan(fit.weights[0, 1]).all()
    assert torch.equal(fit.weights[0, 0], clean.weights[0, 0])
    assert torch.equal(fit.weights[1], clean.weights[1])


def test_values_that_do_not_vary_are_fitted_perfectly():
    kept, weights, values, counts = problem(3, [5], 40, 1)
    fit = solve.weighted_ridge(sampling.pack(kept), weights, torch.full_like(values, 0.25), counts, 1.0)
    assert fit.score.item() == 1.0
    assert fit.weights.abs().max() < 1e-12
    assert fit.intercept.item() == 0.25


def test_cosine_kernel_is_that_of_the_distance():
    from sklearn.metrics import pairwise_distances

    rows = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]], dtype=float)
    distance = pairwise_distances(rows, rows[:1], metric="cosine").ravel()
    wanted = np.sqrt(np.exp(-(distance**2) / 0.25**2))
    kept = torch.from_numpy(rows.sum(1)).long()[None]
    np.testing.assert_allclose(solve.cosine_kernel(kept, torch.tensor([4]), 0.25)[0].numpy(), wanted, rtol=1e-12)
