"""Our methods inside Quantus' own metrics, and the answers of its `explain` where both have the method."""

import numpy as np
import pytest
import quantus
import torch

import fastxai as fx
from fastxai.errors import ArgumentError, ArgumentTypeError, CannotRun
from fastxai.interop.quantus import explain_func

pytestmark = pytest.mark.filterwarnings("ignore")  # of Quantus, which warns by design
TARGETS = np.array([1, 4, 0])


@pytest.mark.parametrize("method", ["Gradient", "Saliency", "InputXGradient", "IntegratedGradients"])
@pytest.mark.parametrize("axes", [(1,), ()])
def test_agrees_with_its_own_explain(method, axes, net, inputs):
    given = inputs.numpy()
    theirs = quantus.explain(net, given, TARGETS, method=method, reduce_axes=axes, device="cpu")
    ours = explain_func(net, given, TARGETS, method=method, reduce_axes=axes)
    assert ours.shape == theirs.shape == (3, 1 if axes else 3, 24, 24)
    if method == "IntegratedGradients":
        theirs = theirs / 0.9  # the weights of captum's ten trapezoids sum to 0.9
    # float32 gradients of a folded copy in calls of another shape
    assert np.abs(ours - theirs).max() < 2e-4 * np.abs(theirs).max()


@pytest.mark.parametrize("method", ["gradcam", fx.KernelShap(samples=40, segments=fx.Grid(4, 4))])
def test_a_metric_runs_with_it(method, net, inputs):
    metric = quantus.PixelFlipping(features_in_step=96, disable_warnings=True, display_progressbar=False)
    found = metric(
        model=net,
        x_batch=inputs.numpy(),
        y_batch=TARGETS,
        explain_func=explain_func,
        explain_func_kwargs={"method": method},
        device="cpu",
    )
    assert np.array(found).shape == (3, 18)
    assert np.ptp(np.array(found)) > 0


def test_a_metric_that_changes_the_weights_gets_other_explanations(net, inputs):
    metric = quantus.MPRT(disable_warnings=True, display_progressbar=False, layer_order="top_down")
    found = metric(
        model=net,
        x_batch=inputs.numpy(),
        y_batch=TARGETS,
        explain_func=explain_func,
        explain_func_kwargs={"method": "Gradient"},
        device="cpu",
    )
    values = np.array(list(found.values()) if isinstance(found, dict) else found, dtype=float)
    assert np.isfinite(values).all() and values.min() < 0.9


def test_superpixels_need_the_picture_behind_the_input(net, noise_pictures, preprocess):
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (preprocess.mean, preprocess.std))
    pixels = noise_pictures(2)
    ready = ((pixels / 255 - mean) / std).numpy()
    config = fx.Lime(samples=40, segments=fx.Slic(segments=12))
    with pytest.raises(ArgumentError, match="preprocess must be given for lime"):
        explain_func(net, ready, TARGETS[:2], method=config)
    found = explain_func(net, ready, TARGETS[:2], method=config, preprocess=preprocess)
    model = fx.Model(net, preprocess, output="logits", precision="fp32", compile=False, device="cpu")
    segments = fx.explain(model, pixels, config, targets=TARGETS[:2], settings=fx.Settings())["lime"].segments
    for image in range(2):  # one weight a superpixel of the pictures themselves
        for label in range(int(segments[image].max()) + 1):
            assert len(np.unique(found[image, 0][segments[image].numpy() == label])) == 1


def test_wrong_arguments_are_refused(net, inputs):
    given = inputs.numpy().copy()
    with pytest.raises(ArgumentTypeError, match="model must be an nn.Module"):
        explain_func(lambda x: x, given, TARGETS)
    with pytest.raises(ArgumentError, match="explainer must be one of"):
        explain_func(net, given, TARGETS, method="DeepLift")
    with pytest.raises(ArgumentError, match="reduce_axes must be"):
        explain_func(net, given, TARGETS, reduce_axes=(2,))
    with pytest.raises(ArgumentError, match=r"reduce_axes must be \(1,\) for gradcam"):
        explain_func(net, given, TARGETS, reduce_axes=())
    with pytest.raises(ArgumentError, match="inputs must be"):
        explain_func(net, given[0], TARGETS)
    given[2] = np.nan
    with pytest.raises(CannotRun, match="input 2 cannot be explained"):
        explain_func(net, given, TARGETS)
