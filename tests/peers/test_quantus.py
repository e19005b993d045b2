"""Deletion against Quantus' PixelFlipping, and mu-fidelity against its FaithfulnessCorrelation on the same subsets.

Quantus counts every number of the input as a feature, so the models here have one channel. Its SensitivityN and
Infidelity hide more and more in the order of the map, or block after block: other measures than those of the papers,
which are ours.
"""

import copy

import numpy as np
import pytest
import quantus
import torch

import fastxai as fx
from fastxai import sampling
from fastxai.faithfulness.subsets import draw_subsets
from fastxai.models import Model
from fastxai.types import Preprocess
from tests.conftest import Convolutional

TARGETS = [3, 1, 4]
SETTINGS = fx.Settings(precision="fp32")
BLACK = -0.4 / 0.25


@pytest.fixture(scope="module")
def grey() -> Model:
    preprocess = Preprocess((24, 24), None, "bilinear", (0.4,), (0.25,))
    return Model(Convolutional(channels=1), preprocess, precision="fp32", compile=False, device="cpu")


@pytest.fixture(scope="module")
def found(grey):
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randint(0, 256, (3, 1, 24, 24), dtype=torch.uint8, generator=generator)
    return fx.explain(grey, pictures, (fx.Saliency(), fx.Random()), targets=TARGETS, settings=SETTINGS)


def theirs(metric, grey, found, method, softmax):
    return metric(
        model=copy.deepcopy(grey.module).eval(),
        x_batch=((found.images / 255 - 0.4) / 0.25).numpy(),
        y_batch=np.array(TARGETS),
        a_batch=found[method].maps.numpy(),
        softmax=softmax,
        device="cpu",
    )


@pytest.mark.parametrize("method", ["saliency", "random"])
def test_deletion_is_pixel_flipping(grey, found, method):
    config = fx.Deletion(steps=16)
    curves = theirs(
        quantus.PixelFlipping(
            features_in_step=576 // 16, normalise=False, perturb_baseline=BLACK, disable_warnings=True
        ),
        grey,
        found,
        method,
        True,
    )
    ours = fx.score(found, grey, config, settings=SETTINGS)
    for image, curve in enumerate(curves):
        with torch.no_grad():
            whole = grey.module((found.images[image : image + 1] / 255 - 0.4) / 0.25).softmax(1)[0, TARGETS[image]]
        assert len(curve) == 16
        area = np.trapezoid([float(whole), *curve], dx=1 / 16)  # their curve begins after the first step
        assert ours.of("deletion", method)[image] == pytest.approx(area, rel=1e-5)  # float32 scores


@pytest.mark.parametrize("method", ["saliency", "random"])
def test_mu_fidelity_is_faithfulness_correlation(grey, found, method, monkeypatch):
    config = fx.MuFidelity(samples=25, share=0.25, segments=None, score="logit")
    ours = fx.score(found, grey, config, settings=SETTINGS)
    keys = sampling.stream_keys(0, found.digests, "mu-fidelity")
    subsets = [draw_subsets(keys, image, np.arange(1, 26), 576, np.full(25, 144)) for image in range(3)]
    given = iter([np.flatnonzero(subsets[image][run]) for run in range(25) for image in range(3)])

    def choice(features, size, replace):
        assert (features, size, replace) == (576, 144, False)
        return next(given)

    monkeypatch.setattr(np.random, "choice", choice)
    metric = quantus.FaithfulnessCorrelation(
        nr_runs=25,
        subset_size=144,
        normalise=False,
        return_aggregate=False,
        perturb_baseline=BLACK,
        disable_warnings=True,
    )
    wanted = theirs(metric, grey, found, method, False)
    assert next(given, None) is None
    # differences of float32 scores
    np.testing.assert_allclose(ours.of("mu-fidelity", method), wanted, rtol=1e-3, atol=1e-4)
