"""Infidelity against `captum.metrics.infidelity`, on the same subsets."""

import copy

import captum.metrics
import numpy as np
import pytest
import torch

import fastxai as fx
from fastxai import sampling
from fastxai.faithfulness.subsets import draw_subsets

TARGETS = [3, 1]
SETTINGS = fx.Settings(precision="fp32")


@pytest.mark.parametrize("normalize", [True, False])
def test_infidelity_agrees(convolutional, noise_pictures, normalize):
    pictures, methods = noise_pictures(2), (fx.Saliency(), fx.GradCam())
    config = fx.Infidelity(samples=30, segments=fx.Grid(4, 4), share=0.25, normalize=normalize, score="logit")
    found = fx.explain(convolutional, pictures, methods, targets=TARGETS, settings=SETTINGS)
    ours = fx.score(found, convolutional, config, settings=SETTINGS)
    mean, std = (
        torch.tensor(v).reshape(3, 1, 1) for v in (convolutional.preprocess.mean, convolutional.preprocess.std)
    )
    x, black = (pictures / 255 - mean) / std, -mean / std
    cells = (torch.arange(24) // 6)[:, None] * 4 + torch.arange(24) // 6
    module = copy.deepcopy(convolutional.module).eval()
    for image in range(2):
        keys = sampling.stream_keys(0, [found.digests[image]], "infidelity")
        subsets = draw_subsets(keys, 0, np.arange(1, 31), 16, np.full(30, 4))
        hidden = torch.from_numpy(subsets)[:, cells].unsqueeze(1).expand(-1, 3, -1, -1)

        def perturb(inputs, hidden=hidden):
            return hidden.float(), torch.where(hidden, black, inputs)

        for method in found:
            # our maps have one number for the three channels of a pixel
            attribution = found[method].maps[image, 0].expand(1, 3, -1, -1) / 3
            theirs = captum.metrics.infidelity(
                module,
                perturb,
                x[image : image + 1],
                attribution,
                target=TARGETS[image],
                n_perturb_samples=30,
                normalize=normalize,
            )
            # float32 there, and squares of differences of float32 scores
            assert ours.of("infidelity", method)[image] == pytest.approx(float(theirs), rel=1e-3, abs=1e-9)
