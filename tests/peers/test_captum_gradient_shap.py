"""GradientSHAP against stock `captum.attr.GradientShap` under the same draws."""

import copy

import numpy as np
import pytest
import torch
from captum.attr import GradientShap as StockGradientShap

import fastxai as fx
from fastxai import sampling
from fastxai.explainers import KeyedGradientShap
from fastxai.images import open_source

SAMPLES = 4


@pytest.fixture
def pictures(photos, classifier):
    from .conftest import crops

    return ((crops(photos, classifier.preprocess.size, 3) + 1) * 127.5).round().to(torch.uint8)


def draws_of(pictures, baselines):
    digests = [entry.read().digest for entry in open_source(pictures)]
    keys = sampling.stream_keys(0, digests, "gradient-shap")
    image = torch.arange(len(pictures)).repeat_interleave(SAMPLES)
    return sampling.path_draws(keys, image, torch.arange(SAMPLES).repeat(len(pictures)), baselines)


def normalized(model, pixels):
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (model.preprocess.mean, model.preprocess.std))
    return (pixels / 255 - mean) / std


def channels_last(module):
    return lambda rows: module(rows.contiguous(memory_format=torch.channels_last))


def test_agrees_with_stock_captum(classifier, pictures, monkeypatch):
    bank = pictures[1:].flip(-1)  # a data set of two baselines
    explained, count = pictures[:2], len(bank)
    # Calls of one shape and memory format on both sides: otherwise the last bits of float32 differ, and where that
    # flips a ReLU or a maximum of a pool, the gradient of a random network jumps by percents at that pixel.
    settings = fx.Settings(precision="fp32", rows={"predict": 8, "scores": 8, "gradients": 2 * SAMPLES})
    targets = [[3, 500], [7, 20]]
    config = fx.GradientShap(samples=SAMPLES, baseline=bank, attributions=True, delta=True)
    ours = fx.explain(classifier, explained, config, targets=targets, settings=settings)["gradient-shap"]

    alpha, index = draws_of(explained, count)
    monkeypatch.setattr(np.random, "uniform", lambda low, high, size: alpha.double().numpy())
    monkeypatch.setattr(np.random, "choice", lambda number, size: index.numpy())
    x, baselines = normalized(classifier, explained), normalized(classifier, bank)
    module = copy.deepcopy(classifier.module).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    worst = 0.0
    for place in range(2):
        theirs, delta = StockGradientShap(channels_last(module)).attribute(
            x, baselines, n_samples=SAMPLES, target=[row[place] for row in targets], return_convergence_delta=True
        )
        scale = theirs.abs().max()
        worst = max(worst, ((ours.attributions[:, place] - theirs).abs().max() / scale).item())
        # float32 sums of the same terms in another order
        assert (ours.attributions[:, place] - theirs).abs().max() < 1e-4 * scale
        mean_delta = delta.reshape(2, SAMPLES).mean(1)
        assert (ours.delta[:, place] - mean_delta).abs().max() < 1e-4 * theirs.abs().sum(dim=(1, 2, 3)).max()
    print(f"\n{classifier.name}: worst difference {worst:.1e} of the maximum")


def test_the_subclass_alone_agrees_too(embedded, photos, monkeypatch):
    from .conftest import crops

    pixels = ((crops(photos, embedded.preprocess.size, 3) + 1) * 127.5).round().to(torch.uint8)
    alpha, index = draws_of(pixels[:2], 1)
    module = embedded.module.eval()
    x, black = normalized(embedded, pixels[:2]), normalized(embedded, torch.zeros_like(pixels[:1]))
    target = torch.tensor([3, 500])
    ours, our_delta = KeyedGradientShap(module, lambda batch, samples, baselines: (alpha, index)).attribute(
        x, black, n_samples=SAMPLES, target=target, return_convergence_delta=True
    )
    monkeypatch.setattr(np.random, "uniform", lambda low, high, size: alpha.double().numpy())
    monkeypatch.setattr(np.random, "choice", lambda number, size: index.numpy())
    theirs, their_delta = StockGradientShap(module).attribute(
        x, black, n_samples=SAMPLES, target=target, return_convergence_delta=True
    )
    # the same calls of the same shape in the same order
    assert (ours - theirs).abs().max() < 1e-6 * theirs.abs().max()
    assert (our_delta - their_delta).abs().max() < 1e-4
    assert isinstance(KeyedGradientShap(module, lambda *_: (alpha, index)), StockGradientShap)
