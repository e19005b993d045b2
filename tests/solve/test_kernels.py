import math

import numpy as np
import pytest
import torch
from captum.attr import KernelShap
from captum.attr._core.lime import get_exp_kernel_similarity_function

from fastxai import solve


def problem(segments=7, samples=40):
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(2, 3, 12, 10, generator=generator)
    hidden = torch.randn(2, 3, 12, 10, generator=generator)
    mask = torch.randint(0, segments, (2, 3, 12, 10), generator=generator)
    kept = torch.rand(2, samples, segments, generator=generator) < 0.5
    kept[:, 0], kept[:, 1] = True, False
    return pictures, hidden, mask, kept


@pytest.mark.parametrize("width", [0.25, 1.0])
@pytest.mark.parametrize("black", [False, True], ids=["a baseline picture", "zeros"])
def test_image_kernel_is_that_of_the_perturbed_pictures(width, black):
    pictures, hidden, mask, kept = problem()
    hidden = torch.zeros_like(hidden) if black else hidden
    found = solve.image_kernel(kept, solve.SegmentMoments.of(pictures, hidden, mask, 7), width)
    naive = get_exp_kernel_similarity_function("cosine", width)
    for image in range(2):
        for row in range(kept.shape[1]):
            shown = torch.where(kept[image, row][mask[image]], pictures[image], hidden[image])
            # captum's product and lengths are float32
            assert found[image, row].item() == pytest.approx(naive(pictures[image], shown, None), rel=1e-4)
    assert found[:, 0].tolist() == pytest.approx([1.0, 1.0])
    if black:  # nothing is left of the picture: its distance is 1
        assert found[:, 1].tolist() == pytest.approx([math.exp(-1 / (2 * width**2))] * 2)


def test_end_points_weigh_as_captum_has_it():
    kept = problem()[3]
    found = solve.end_point_weights(kept, 1e6)
    method = KernelShap(lambda x: x)
    for image in range(2):
        naive = [
            method.kernel_shap_similarity_kernel(None, None, row[None], num_interp_features=7) for row in kept[image]
        ]
        assert found[image].tolist() == torch.cat(naive).tolist()
    assert np.unique(found.numpy()).tolist() == [1.0, 1e6]
