"""Code for captum with its import line changed: the same calls on captum's classes and on ours."""

import inspect

import captum.attr
import numpy as np
import pytest
import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr._core.lime import get_exp_kernel_similarity_function
from torch import nn

import fastxai as fx
from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.interop import captum as ours

from .conftest import difference

# float32 readings of a folded copy in calls of another shape; the fits on them are scikit-learn's on both sides
CLOSE = 2e-4

pytestmark = pytest.mark.filterwarnings("ignore:You are providing multiple inputs:UserWarning")


def both(name, *arguments, seed=0, made=(), **options):
    """attribute(...) of captum's class and of ours, from the same state of the generators."""
    found = []
    for package in (captum.attr, ours):
        torch.manual_seed(seed)
        np.random.seed(seed)
        found.append(getattr(package, name)(*made).attribute(*arguments, **options))
    return found


@pytest.mark.parametrize("name", ["Lime", "KernelShap", "GradientShap", "LayerGradCam"])
def test_signatures_and_names_are_captums(name):
    theirs, mine = getattr(captum.attr, name), getattr(ours, name)
    assert issubclass(mine, theirs)
    assert mine.get_name() == theirs.get_name()
    for method in ("__init__", "attribute"):
        pairs = [
            [(p.name, p.default, p.kind) for p in inspect.signature(getattr(kind, method)).parameters.values()]
            for kind in (theirs, mine)
        ]
        assert pairs[0] == pairs[1]


@pytest.mark.parametrize("name", ["Lime", "KernelShap"])
@pytest.mark.parametrize("samples", [25, 200])
def test_perturbation_methods_agree(name, samples, net, inputs, patches):
    theirs, found = both(
        name, inputs[:1], made=(net,), target=2, feature_mask=patches, n_samples=samples, perturbations_per_eval=8
    )
    assert found.shape == theirs.shape and found.dtype == theirs.dtype
    assert theirs.abs().max() > 0
    assert difference(found, theirs) < CLOSE


@pytest.mark.parametrize("name", ["Lime", "KernelShap"])
def test_several_pictures_with_classes_masks_and_baselines_of_their_own_agree(name, net, inputs, patches):
    masks = torch.cat([patches, patches.flip(-1), patches.transpose(2, 3)])
    base = torch.tensor([0.5, -1.0, 2.0]).reshape(3, 1, 1, 1).expand_as(inputs)
    theirs, found = both(
        name, inputs, made=(net,), baselines=base, target=torch.tensor([2, 0, 5]), feature_mask=masks, n_samples=60,
        return_input_shape=False,
    )  # fmt: skip
    assert found.shape == theirs.shape == (3, 16)
    assert difference(found, theirs) < CLOSE


FORMS = {
    "a blurred baseline": lambda x, patches: {"baselines": nn.functional.avg_pool2d(x, 5, 1, 2)},
    "a number": lambda x, patches: {"baselines": 0.3},
    "features by channel": lambda x, patches: {"feature_mask": patches + 16 * torch.arange(3).reshape(1, 3, 1, 1)},
    "features that begin at 5": lambda x, patches: {"feature_mask": patches + 5},
    "a feature for every number": lambda x, patches: {"feature_mask": None},
}


@pytest.mark.filterwarnings("ignore:Minimum element in feature mask:UserWarning")
@pytest.mark.parametrize("form", FORMS)
def test_masks_and_baselines_of_any_form_agree(form, net, inputs, patches):
    options = {"feature_mask": patches, **FORMS[form](inputs[:1], patches)}
    theirs, found = both("Lime", inputs[:1], made=(net,), target=1, n_samples=80, **options)
    assert theirs.abs().max() > 0
    assert difference(found, theirs) < CLOSE


def test_other_surrogates_similarities_and_draws_agree(net, inputs, patches):
    def near(original, **options):
        return (torch.rand(1, options["num_interp_features"]) < 0.8).long()

    found = []
    for package in (captum.attr, ours):
        torch.manual_seed(0)
        kernel = get_exp_kernel_similarity_function("euclidean", kernel_width=20.0)
        method = package.Lime(net, SkLearnRidge(alpha=0.5), kernel, near)
        found.append(method.attribute(inputs[:1], target=1, feature_mask=patches, n_samples=50))
    assert difference(found[1], found[0]) < CLOSE


def test_a_generator_that_ends_early_is_reported_as_captum_does(net, inputs, patches):
    def few(original, **options):
        for _ in range(20):
            yield (torch.rand(1, options["num_interp_features"]) < 0.5).long()

    found = []
    for package in (captum.attr, ours):
        torch.manual_seed(0)
        method = package.Lime(net, perturb_func=few)
        with pytest.warns(UserWarning, match="Generator completed prior"):
            found.append(method.attribute(inputs[:1], target=1, feature_mask=patches, n_samples=50))
    assert difference(found[1], found[0]) < CLOSE


OPTIONS = (
    {},
    {"n_samples": 7, "stdevs": 0.1},
    {"baselines": "several", "n_samples": 4, "return_convergence_delta": True},
    {"n_samples": 3, "target": [2, 0, 5], "multiply": False},
)


@pytest.mark.parametrize("options", OPTIONS, ids=["defaults", "noise", "delta", "not multiplied"])
def test_gradient_shap_agrees(options, net, inputs):
    options = {"target": 2, "baselines": torch.zeros_like(inputs[:1]), **options}
    if isinstance(options["baselines"], str):
        options["baselines"] = inputs.flip(0) * 0.1
    made = (net, options.pop("multiply", True))
    theirs, found = both("GradientShap", inputs, made=made, **options)
    if not isinstance(theirs, tuple):
        theirs, found = (theirs,), (found,)
    assert len(found) == len(theirs)
    for mine, stock in zip(found, theirs, strict=True):
        assert mine.shape == stock.shape
        assert difference(mine, stock) < CLOSE


@pytest.mark.parametrize("target", [1, [1, 4, 0], torch.tensor([1, 4, 0])], ids=["number", "list", "tensor"])
@pytest.mark.parametrize("relu", [False, True])
def test_layer_grad_cam_agrees(target, relu, net, inputs):
    theirs, found = both(
        "LayerGradCam", inputs, made=(net, net.act), target=target, relu_attributions=relu, attr_dim_summation=True
    )
    assert found.shape == theirs.shape == (3, 1, 12, 12)
    assert difference(found, theirs.detach()) < CLOSE
    grown = ours.LayerGradCam.interpolate(found, (24, 24))
    assert grown.shape == (3, 1, 24, 24)


def test_a_fastxai_model_and_a_function_may_be_explained(net, classifier, inputs, patches):
    options = {"target": 1, "feature_mask": patches, "n_samples": 40}
    found = []
    for given in (net, net.forward, classifier, lambda x: net(x)):
        torch.manual_seed(0)
        found.append(ours.Lime(given).attribute(inputs[:1], **options))
    for other in found[1:]:
        assert difference(other, found[0]) < CLOSE


def test_probabilities_by_a_function(net, inputs, patches):
    def probabilities(x):
        return net(x).softmax(1)

    base = torch.zeros(1, 3, 24, 24)
    for options in ({"feature_mask": patches, "n_samples": 100}, {"baselines": base, "n_samples": 4}):
        name = "GradientShap" if "baselines" in options else "KernelShap"
        theirs, found = both(name, inputs[:1], made=(probabilities,), target=1, **options)
        assert difference(found, theirs) < CLOSE


@pytest.mark.parametrize("name", ["Lime", "KernelShap", "GradientShap"])
def test_captum_insights_can_call_it(name, net, inputs, patches):
    """Insights is no part of captum 0.9 any more; as its `calculate_attribution` did, word for word."""
    method = getattr(ours, name)(net)
    arguments = {} if name == "GradientShap" else {"feature_mask": (patches,)}
    assert "baselines" in inspect.signature(method.attribute).parameters
    data, baseline = (inputs[:1],), (torch.zeros_like(inputs[:1]),)
    torch.manual_seed(0)
    found = method.attribute.__wrapped__(
        method, data, additional_forward_args=None, target=torch.tensor(1), baselines=baseline, **arguments
    )
    assert isinstance(found, tuple) and found[0].shape == inputs[:1].shape
    assert torch.stack([part.flatten().sum() for part in found]).isfinite().all()


def test_the_module_is_left_alone_and_its_changes_are_seen(net, inputs, patches):
    net.train()
    method = ours.LayerGradCam(net, net.act2)
    first = method.attribute(inputs, target=1)
    assert net.training and all(p.requires_grad and p.grad is None for p in net.parameters())
    with torch.no_grad():
        net.head.weight.data[1].mul_(-2)  # which torch counts no version for
    # the score of class 1, but for its bias, is now -2 times what it was
    assert difference(method.attribute(inputs, target=1), -2 * first) < 1e-5


def test_progress_is_shown(net, inputs, patches, capsys):
    ours.Lime(net).attribute(inputs[:1], target=1, feature_mask=patches, show_progress=True)
    assert "Lime attribution" in capsys.readouterr().err


def test_what_cannot_be_done_is_refused(net, inputs, patches):
    lime = ours.Lime(net)
    with pytest.raises(ArgumentTypeError, match="inputs must be one tensor"):
        lime.attribute((inputs, inputs), target=1)
    with pytest.raises(ArgumentError, match="additional_forward_args must be None"):
        lime.attribute(inputs[:1], target=1, additional_forward_args=(3,))
    with pytest.raises(ArgumentError, match=r"inputs must be float model input \[N, C, H, W\]"):
        lime.attribute(inputs[:1].to(torch.uint8), target=1)
    with pytest.raises(ArgumentError, match="target must be a class for a model with 6 scores, got None"):
        lime.attribute(inputs[:1], feature_mask=patches)
    with pytest.raises(ArgumentError, match="target must be between 0 and 5"):
        lime.attribute(inputs[:1], target=6, feature_mask=patches)
    with pytest.raises(ArgumentTypeError, match="scores are 2D here"):
        lime.attribute(inputs[:1], target=(1, 2), feature_mask=patches)
    with pytest.raises(ArgumentError, match="target must be one class id, or one for each"):
        ours.GradientShap(net).attribute(inputs, inputs, target=[1, 2])
    with pytest.raises(ArgumentError, match="attr_dim_summation must be True"):
        ours.LayerGradCam(net, net.act).attribute(inputs, target=1, attr_dim_summation=False)
    with pytest.raises(ArgumentError, match="layer must be a part of the model"):
        ours.LayerGradCam(net, nn.ReLU())
    with pytest.raises(ArgumentTypeError, match="got a function"):
        ours.LayerGradCam(lambda x: net(x), net.act)
    with pytest.raises(ArgumentTypeError, match="model must be an nn.Module"):
        ours.Lime(7)
    with pytest.raises(ArgumentError, match="must return floating-point scores"):
        ours.Lime(lambda x: net(x).sum()).attribute(inputs[:1], target=1, feature_mask=patches)


def test_a_model_of_another_size_is_refused(classifier):
    with pytest.raises(ArgumentError, match="inputs must have the model's shape"):
        ours.GradientShap(classifier).attribute(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16), target=0)


def test_bf16_is_used_where_the_model_says_so(net, preprocess, inputs, patches):
    model = fx.Model(net, preprocess, precision="bf16", compile=False, device="cpu")
    torch.manual_seed(0)
    rough = ours.KernelShap(model).attribute(inputs[:1], target=1, feature_mask=patches, n_samples=100)
    torch.manual_seed(0)
    exact = ours.KernelShap(net).attribute(inputs[:1], target=1, feature_mask=patches, n_samples=100)
    # 8 bits of mantissa in weights and activations
    assert 1e-5 < difference(rough, exact) < 0.1
