import numpy as np
import pytest
import torch

import fastxai as fx
from fastxai.errors import ArgumentError
from fastxai.interop import to_lime, to_shap

SETTINGS = fx.Settings(precision="fp32")


def test_lime_code_gets_the_same_mask(convolutional, noise_pictures):
    lime = fx.Lime(samples=60, segments=fx.Grid(4, 4))
    found = fx.explain(convolutional, noise_pictures(2), lime, targets="top2", settings=SETTINGS)
    mask = found["lime"].mask(top_segments=3)
    for image in range(2):
        theirs = to_lime(found, image)
        assert theirs.top_labels == found.targets[image].tolist()
        for place, label in enumerate(theirs.top_labels):
            _, shown = theirs.get_image_and_mask(label, positive_only=True, num_features=3, hide_rest=False)
            assert np.array_equal(shown.astype(bool), mask[image, place].numpy())
            sizes = [abs(weight) for _, weight in theirs.local_exp[label]]
            assert sizes == sorted(sizes, reverse=True)


@pytest.mark.filterwarnings("ignore")  # of matplotlib and of shap itself
@pytest.mark.parametrize("attributions", [False, True])
def test_shap_draws_it(convolutional, noise_pictures, attributions):
    import matplotlib as mpl

    mpl.use("Agg")
    import shap
    from matplotlib import pyplot

    config = fx.GradientShap(samples=2, attributions=attributions)
    found = fx.explain(convolutional, noise_pictures(2), config, targets="top3", settings=SETTINGS)
    theirs = to_shap(found)
    assert theirs.values.shape == (2, 24, 24, 3 if attributions else 1, 3)
    summed = torch.from_numpy(theirs.values).sum(3).permute(0, 3, 1, 2)
    np.testing.assert_allclose(summed.numpy(), found["gradient-shap"].maps.numpy(), atol=1e-6)
    shap.image_plot(theirs, show=False)
    pyplot.close("all")


def test_wrong_arguments_are_refused(convolutional, noise_pictures):
    found = fx.explain(convolutional, noise_pictures(1), fx.GradCam(), settings=SETTINGS)
    with pytest.raises(ArgumentError, match="name must be a method on superpixels"):
        to_lime(found, 0, "gradcam")
    with pytest.raises(ArgumentError, match="method must be one of gradcam"):
        to_shap(found)
