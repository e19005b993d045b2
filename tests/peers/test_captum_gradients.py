"""Saliency, input times gradient, Integrated Gradients, SmoothGrad and Expected Gradients against captum's classes."""

import copy

import numpy as np
import pytest
import torch
from captum import attr

import fastxai as fx
from fastxai import sampling
from fastxai.images import open_source

TARGETS = [[3, 500], [7, 20]]
SAMPLES = 4


@pytest.fixture
def pictures(photos, classifier):
    from .conftest import crops

    return ((crops(photos, classifier.preprocess.size, 3) + 1) * 127.5).round().to(torch.uint8)


@pytest.fixture
def embedded_fp32():
    return fx.load_model("embedded", device="cpu", precision="fp32", compile=False)


@pytest.fixture
def photographs(photos, embedded_fp32):
    from .conftest import crops

    return ((crops(photos, embedded_fp32.preprocess.size, 3) + 1) * 127.5).round().to(torch.uint8)


def stock(model):
    """The module as captum's classes take it."""
    return channels_last(copy.deepcopy(model.module).eval().requires_grad_(False).to(memory_format=torch.channels_last))


def normalized(model, pixels):
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (model.preprocess.mean, model.preprocess.std))
    return (pixels / 255 - mean) / std


def channels_last(module):
    return lambda rows: module(rows.contiguous(memory_format=torch.channels_last))


def explain(model, pictures, config, rows):
    # Calls of one shape and memory format on both sides: otherwise the last bits of float32 differ, and where that
    # flips a ReLU or a maximum of a pool, the gradient of a random network jumps by percents at that pixel.
    settings = fx.Settings(precision="fp32", rows={"predict": 8, "scores": 8, "gradients": rows})
    return fx.explain(model, pictures, config, targets=TARGETS, settings=settings)[config.name]


def assert_close(ours, theirs, what):
    error = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    print(f"{what}: worst difference {error:.1e} of the maximum")
    assert error < 1e-4  # float32 sums of the same terms in another order


def keyed_rows(pictures, method):
    keys = sampling.stream_keys(0, [entry.read().digest for entry in open_source(pictures)], method)
    image = torch.arange(len(pictures)).repeat_interleave(SAMPLES)
    return keys, image, torch.arange(SAMPLES).repeat(len(pictures))


def test_the_gradient_and_its_product_with_the_input(classifier, pictures):
    explained = pictures[:2]
    x, forward = normalized(classifier, explained).requires_grad_(), stock(classifier)
    ours = {
        "saliency": explain(classifier, explained, fx.Saliency(attributions=True), 2),
        "signed": explain(classifier, explained, fx.Saliency(absolute=False, attributions=True, name="signed"), 2),
        "product": explain(classifier, explained, fx.InputXGradient(attributions=True, name="product"), 2),
    }
    for place in range(2):
        target = [row[place] for row in TARGETS]
        theirs = {
            "saliency": attr.Saliency(forward).attribute(x, target=target),  # absolute by default, as ours
            "signed": attr.Saliency(forward).attribute(x, target=target, abs=False),
            "product": attr.InputXGradient(forward).attribute(x, target=target),
        }
        for name, found in theirs.items():
            assert_close(ours[name].attributions[:, place], found.detach(), f"{classifier.name}, {name}")
            assert_close(ours[name].maps[:, place], found.detach().sum(1), f"{classifier.name}, {name}, map")


def test_integrated_gradients(classifier, pictures):
    explained = pictures[:2]
    x, black = normalized(classifier, explained), normalized(classifier, torch.zeros_like(explained[:1]))
    config = fx.IntegratedGradients(steps=SAMPLES, attributions=True)
    ours = explain(classifier, explained, config, 2 * SAMPLES)
    for place in range(2):
        theirs, delta = attr.IntegratedGradients(stock(classifier)).attribute(
            x, black, target=[row[place] for row in TARGETS], n_steps=SAMPLES, return_convergence_delta=True
        )
        assert_close(ours.attributions[:, place], theirs, classifier.name)
        assert (ours.delta[:, place] - delta).abs().max() < 1e-4 * theirs.abs().sum(dim=(1, 2, 3)).max()


@pytest.mark.parametrize("rule", ["riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid"])
def test_rules_of_integrated_gradients(embedded_fp32, photographs, rule):
    pixels = photographs[:2]
    x, black = normalized(embedded_fp32, pixels), normalized(embedded_fp32, torch.zeros_like(pixels[:1]))
    ours = explain(embedded_fp32, pixels, fx.IntegratedGradients(steps=3, rule=rule, attributions=True), 6)
    theirs = attr.IntegratedGradients(stock(embedded_fp32)).attribute(
        x, black, target=[row[0] for row in TARGETS], n_steps=3, method=rule
    )
    # captum's trapezoids have weights 1/n, which sum to (n - 1) / n; ours integrate a constant
    assert_close(ours.attributions[:, 0], theirs * (3 / 2 if rule == "riemann_trapezoid" else 1), rule)


@pytest.mark.parametrize(
    ("variant", "kind"), [("plain", "smoothgrad"), ("squared", "smoothgrad_sq"), ("vargrad", "vargrad")]
)
def test_smoothgrad(embedded_fp32, photographs, monkeypatch, variant, kind):
    explained = photographs[:2]
    x = normalized(embedded_fp32, explained)
    keys, image, ordinal = keyed_rows(explained, "smoothgrad")
    noise = sampling.pixel_normals(keys, image, ordinal, tuple(x.shape[1:]))
    monkeypatch.setattr(torch, "normal", lambda mean, std: std * noise)
    for absolute in (False, True):
        config = fx.SmoothGrad(SAMPLES, stdevs=0.3, variant=variant, absolute=absolute, attributions=True)
        ours = explain(embedded_fp32, explained, config, 2 * SAMPLES)
        theirs = attr.NoiseTunnel(attr.Saliency(stock(embedded_fp32))).attribute(
            x, nt_type=kind, nt_samples=SAMPLES, stdevs=0.3, target=[row[0] for row in TARGETS], abs=absolute
        )
        assert_close(ours.attributions[:, 0], theirs.detach(), f"{embedded_fp32.name}, {kind}, absolute={absolute}")


def test_expected_gradients(embedded_fp32, photographs, monkeypatch):
    """Captum has them as its GradientShap without noise, over a distribution of baselines."""
    explained, bank = photographs[:2], photographs[1:].flip(-1)
    config = fx.ExpectedGradients(samples=SAMPLES, baseline=bank, attributions=True)
    ours = explain(embedded_fp32, explained, config, 2 * SAMPLES)
    keys, image, ordinal = keyed_rows(explained, "expected-gradients")
    alpha, index = sampling.path_draws(keys, image, ordinal, len(bank))
    monkeypatch.setattr(np.random, "uniform", lambda low, high, size: alpha.double().numpy())
    monkeypatch.setattr(np.random, "choice", lambda number, size: index.numpy())
    x, baselines = normalized(embedded_fp32, explained), normalized(embedded_fp32, bank)
    theirs = attr.GradientShap(stock(embedded_fp32)).attribute(
        x, baselines, n_samples=SAMPLES, target=[row[0] for row in TARGETS]
    )
    assert_close(ours.attributions[:, 0], theirs, embedded_fp32.name)
