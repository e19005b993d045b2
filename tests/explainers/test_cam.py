"""The class activation maps that come out of the prediction pass, and what all of them share."""

import numpy as np
import pytest
import torch
from torch import nn

import fastxai as fx
from fastxai.errors import ArgumentError
from fastxai.explainers import EXPLAINERS
from fastxai.models import Model, Recording

from .conftest import Shared, normalized

SETTINGS = fx.Settings(precision="fp32")
ONE_PASS = {
    "gradcam": fx.GradCam,
    "gradcam-plus-plus": fx.GradCamPlusPlus,
    "hirescam": fx.HiResCam,
    "layercam": fx.LayerCam,
    "xgradcam": fx.XGradCam,
    "eigencam": fx.EigenCam,
}
BY_ROWS = {"scorecam": fx.ScoreCam, "ablationcam": fx.AblationCam}
EVERY = ONE_PASS | BY_ROWS


def recorded(model, pictures, target):
    """Activations [N, D, h, w] before and behind the last ReLU, and the target's gradients for both."""
    module, x = model.module, normalized(model, pictures)
    before = module.features(x).detach().requires_grad_()
    behind = before.relu()
    score = module.head(behind.mean(dim=(2, 3)))[:, target].sum()
    return {
        layer: (activation.detach(), gradient)
        for layer, activation, gradient in zip(
            ("features.2", "act"), (before, behind), torch.autograd.grad(score, (before, behind)), strict=True
        )
    }


def plus_plus(a, g):
    below = 2 * g**2 + a.sum((2, 3), keepdim=True) * g**3 + 1e-6
    return ((g.relu() * g**2 / below).sum((2, 3), keepdim=True) * a).sum(1)


def x_grad(a, g):
    return ((g * a / (a.sum((2, 3), keepdim=True) + 1e-7)).sum((2, 3), keepdim=True) * a).sum(1)


FORMULAS = {
    "gradcam": lambda a, g: (g.mean((2, 3), keepdim=True) * a).sum(1),
    "gradcam-plus-plus": plus_plus,
    "hirescam": lambda a, g: (g * a).sum(1),
    "layercam": lambda a, g: (g.relu() * a).sum(1),
    "xgradcam": x_grad,
}


@pytest.mark.parametrize("layer", ["features.2", "act"])
@pytest.mark.parametrize("method", FORMULAS)
def test_native_map_is_the_formula(convolutional, noise_pictures, method, layer):
    pictures = noise_pictures(3)
    explainer = ONE_PASS[method](layer=layer)
    found = fx.explain(convolutional, pictures, explainer, targets=[[2, 5]] * 3, settings=SETTINGS)[method]
    for place, target in enumerate((2, 5)):
        wanted = FORMULAS[method](*recorded(convolutional, pictures, target)[layer])
        # float32 sums over 12 channels and 144 positions, in another order and from a call of another shape
        scale = wanted.abs().max().item()
        np.testing.assert_allclose(found.native[:, place].numpy(), wanted.numpy(), atol=2e-5 * scale)


def test_where_gradients_are_constant_over_positions_three_methods_agree(convolutional, noise_pictures):
    """Behind the mean over positions a channel has one gradient: its mean is itself, and so is XGrad-CAM's weight."""
    methods = [ONE_PASS[name](layer="act") for name in ("gradcam", "hirescam", "xgradcam")]
    found = fx.explain(convolutional, noise_pictures(3), methods, targets="top2", settings=SETTINGS)
    scale = found["gradcam"].native.abs().max()
    # rounding of float32; XGrad-CAM's 1e-7 beside sums of activations
    assert (found["hirescam"].native - found["gradcam"].native).abs().max() < 1e-5 * scale
    assert (found["xgradcam"].native - found["gradcam"].native).abs().max() < 1e-4 * scale
    methods = [ONE_PASS[name](layer="features.0") for name in ("gradcam", "hirescam")]
    early = fx.explain(convolutional, noise_pictures(3), methods, targets="top2", settings=SETTINGS)
    assert (early["hirescam"].native - early["gradcam"].native).abs().max() > 0.1 * early["gradcam"].native.abs().max()


def test_hirescam_adds_up_to_the_score(convolutional, noise_pictures):
    """The score is linear in the last layer, so that the native map holds all of it but the constant."""
    pictures = noise_pictures(3)
    found = fx.explain(convolutional, pictures, fx.HiResCam(layer="act"), targets=[[1, 4]] * 3, settings=SETTINGS)
    with torch.no_grad():
        scores = convolutional.module(normalized(convolutional, pictures)) - convolutional.module.head.bias
    # float32 sums of 12 x 144 terms
    torch.testing.assert_close(found["hirescam"].native.sum((2, 3)), scores[:, [1, 4]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 3, 4), (20, 3, 4)], ids=["more positions", "more channels"])
def test_eigencam_finds_the_pattern_of_a_rank_one_activation(shape):
    """A_d = c_d P + m_d: the projection is |c| (P - mean P), the position farthest from 0 positive."""
    generator = torch.Generator().manual_seed(0)
    pattern = torch.randn(shape[1:], generator=generator)
    factors, offsets = torch.randn(2, shape[0], 1, 1, generator=generator)
    centred = pattern - pattern.mean()
    wanted = factors.norm() * centred * centred.flatten()[centred.abs().argmax()].sign()
    for sign in (1, -1):
        activation = (sign * factors * pattern + offsets).unsqueeze(0)
        native = fx.EigenCam().native(Recording(activation, activation.new_zeros(1, 0, *shape)), 2)
        assert torch.equal(native[0, 0], native[0, 1])
        # float32 activations
        torch.testing.assert_close(native[0, 0], wanted, rtol=1e-5, atol=1e-5)


def test_eigencam_marks_activations_that_are_not_finite():
    activation = torch.randn(3, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    clean = fx.EigenCam().native(Recording(activation, activation.new_zeros(3, 0, 6, 4, 4)), 1)
    broken = activation.clone()
    broken[1, 2, 3, 0] = float("inf")
    native = fx.EigenCam().native(Recording(broken, activation.new_zeros(3, 0, 6, 4, 4)), 1)
    assert torch.isnan(native[1]).all()
    assert torch.equal(native[[0, 2]], clean[[0, 2]])


def test_without_a_method_that_needs_gradients_none_are_computed(convolutional, noise_pictures, monkeypatch):
    methods = (fx.EigenCam(layer="act"), fx.ScoreCam(layer="act"), fx.AblationCam(layer="act"))
    wanted = fx.explain(convolutional, noise_pictures(2), methods, targets="top2", settings=SETTINGS)

    def refuse(*arguments, **options):
        raise AssertionError("a backward pass")

    monkeypatch.setattr(torch.autograd, "grad", refuse)
    found = fx.explain(convolutional, noise_pictures(2), methods, targets="top2", settings=SETTINGS)
    for name in found:
        assert torch.equal(found[name].maps, wanted[name].maps)
    with pytest.raises(AssertionError, match="backward"):
        fx.explain(convolutional, noise_pictures(2), fx.HiResCam(layer="act"), settings=SETTINGS)


# -- several layers


@pytest.mark.parametrize("method", EVERY)
def test_several_layers_are_the_mean_of_their_displayed_maps(convolutional, noise_pictures, method):
    pictures, kind = noise_pictures(3), EVERY[method]
    layers = ("features.0", "act")
    methods = [kind(layer=layers), *(kind(layer=layer, name=layer) for layer in layers)]
    found = fx.explain(convolutional, pictures, methods, targets="top2", settings=SETTINGS)
    assert torch.equal(found[method].native, found["features.0"].native)
    assert torch.equal(found[method].native_2, found["act"].native)

    def stretched(maps):
        low, high = maps.min(), maps.max()
        return (maps - low) / (1e-7 + high - low)

    for shown, first, second in zip(
        found[method].maps.flatten(0, 1),
        found["features.0"].native.flatten(0, 1),
        found["act"].native.flatten(0, 1),
        strict=True,
    ):
        grown = [
            nn.functional.interpolate(stretched(native.relu())[None, None], size=(24, 24), mode="bilinear")[0, 0]
            for native in (first, second)
        ]
        # the same steps in float32
        torch.testing.assert_close(shown, stretched((grown[0] + grown[1]) / 2), rtol=0, atol=1e-5)


def test_auto_may_be_one_of_several(convolutional, noise_pictures):
    found = fx.explain(convolutional, noise_pictures(1), fx.GradCam(layer=("features.0", "auto")), settings=SETTINGS)
    named = fx.explain(convolutional, noise_pictures(1), fx.GradCam(layer=["features.0", "act"]), settings=SETTINGS)
    assert torch.equal(found["gradcam"].maps, named["gradcam"].maps)
    with pytest.raises(ArgumentError, match="layer must name different layers, got 'act' twice"):
        fx.explain(convolutional, noise_pictures(1), fx.GradCam(layer=("act", "auto")), settings=SETTINGS)


@pytest.mark.parametrize("store", ["full", "compact"])
def test_a_run_holds_the_maps_of_every_layer(convolutional, noise_pictures, tmp_path, store):
    pictures = noise_pictures(5)
    methods = (fx.LayerCam(layer=("features.0", "act")), fx.AblationCam(layer=("act",), channels=4), fx.EigenCam())
    options = {"targets": "top2", "settings": SETTINGS, "batch": 3}
    found = fx.explain(convolutional, pictures, methods, **options)
    run = fx.run(convolutional, pictures, methods, out=tmp_path / "run", store=store, shard_images=2, **options)
    read = run.read(0, 5)
    for name in found:
        for field in found[name].data:
            assert torch.equal(read[name].data[field], found[name].data[field]), (name, field)
    assert fx.verify(tmp_path / "run") == []
    again = fx.open_run(tmp_path / "run")
    assert again["layercam"].explainer == methods[0]


# -- configuration


@pytest.mark.parametrize("method", EVERY)
def test_configurations_are_data(method):
    explainer = EVERY[method](layer=("a", "b"), name="mine")
    assert explainer.method == method
    assert EXPLAINERS.from_dict(explainer.to_dict()) == explainer
    assert EXPLAINERS.parse(f"{method}:layer=[a,b],name=mine") == explainer
    assert EXPLAINERS.parse(method) == EVERY[method]()


@pytest.mark.parametrize("layer", ["", (), ("act", ""), 3, None, ("act", 3)])
def test_wrong_layers_are_refused(layer):
    with pytest.raises(ArgumentError, match="layer must be a module's name") as told:
        fx.HiResCam(layer=layer)
    assert "\n" not in str(told.value)


def test_what_the_model_does_not_have_is_refused_before_any_work(convolutional, noise_pictures):
    with pytest.raises(ArgumentError, match="layer must name different layers, got 'act' twice"):
        fx.LayerCam(layer=("act", "act"))
    for kind in EVERY.values():
        with pytest.raises(ArgumentError, match=r"layer must be a layer of the model, got 'features.9'"):
            fx.explain(convolutional, noise_pictures(1), kind(layer=("act", "features.9")))
    for channels, message in ((0, "channels must be at least 1, got 0"), (2.5, "channels must be a whole number")):
        for kind in BY_ROWS.values():
            with pytest.raises(ArgumentError, match=message):
                kind(channels=channels)


# -- what must not matter, and what must not be left behind

METHODS = tuple(
    kind(layer=layer, name=f"{method}-{number}")
    for method, kind in EVERY.items()
    for number, layer in enumerate(["act", ("features.0", "features.2")])
)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_batch_does_not_matter(convolutional, noise_pictures, precision):
    """One picture alone, first and last among 12, in batches of 5 and 12: every number has the same bits."""
    rows = {"predict": 4, "scores": 8, "gradients": 4, "injected": 8}
    settings = fx.Settings(precision=precision, rows=rows)
    others = noise_pictures(12)
    picture, rest = others[:1], others[1:]
    alone = fx.explain(convolutional, picture, METHODS, targets="top2", settings=settings)
    for pictures, place, batch in (
        (torch.cat([picture, rest]), 0, 12),
        (torch.cat([rest, picture]), 11, 12),
        (torch.cat([rest[:7], picture, rest[7:]]), 7, 5),
    ):
        found = fx.explain(convolutional, pictures, METHODS, targets="top2", settings=settings, batch=batch)
        for name in found:
            for field, value in found[name].data.items():
                assert torch.equal(value[place], alone[name].data[field][0]), (name, field)


def test_rows_a_chunk_do_not_matter(convolutional, noise_pictures):
    pictures = noise_pictures(3)
    methods = [kind(layer=("features.0", "act")) for kind in BY_ROWS.values()]
    settings = [fx.Settings(precision="fp32", rows={"predict": 4, "scores": n, "injected": n}) for n in (1, 5, 64)]
    first, *others = (fx.explain(convolutional, pictures, methods, settings=s) for s in settings)
    for other in others:
        for name in first:
            scale = first[name].native.abs().max()
            # calls of other shapes round the scores in their last bits
            assert (other[name].native - first[name].native).abs().max() < 1e-4 * scale


class Failing(nn.Module):
    """Raises from the `at`-th call on."""

    def __init__(self, module, at):
        super().__init__()
        self.module, self.at = module, at
        self.__dict__["calls"] = Shared([0])

    def forward(self, x):
        self.calls[0] += 1
        if self.calls[0] >= self.at:
            raise RuntimeError("broken")
        return self.module(x)


@pytest.mark.parametrize("at", [1000, 12, 20])
def test_the_callers_module_is_left_alone(convolutional, noise_pictures, at):
    module = Failing(convolutional.module, at)
    module.train()
    parameters = list(module.parameters())
    parameters[0].requires_grad_(False)
    parameters[1].grad = torch.ones_like(parameters[1])
    model = Model(module, convolutional.preprocess, precision="fp32", compile=False, device="cpu")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    methods = [kind(layer="module.features.2") for kind in EVERY.values()]
    rows = {"predict": 4, "scores": 8, "gradients": 4, "injected": 8}
    try:
        settings = fx.Settings(precision="fp32", rows=rows)
        if at == 1000:
            assert not fx.explain(model, noise_pictures(5), methods, settings=settings, batch=2).failures
        else:
            with pytest.raises(RuntimeError, match="broken"):
                fx.explain(model, noise_pictures(5), methods, settings=settings, batch=2)
        assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
        assert [p.requires_grad for p in parameters] == [False] + [True] * (len(parameters) - 1)
        assert [p.grad is not None for p in parameters] == [False, True] + [False] * (len(parameters) - 2)
        assert all(part.training for part in module.modules())
        assert not any(p._forward_hooks or p._forward_pre_hooks or p._backward_hooks for p in module.modules())
    finally:  # the network belongs to all tests
        parameters[0].requires_grad_(True)
        parameters[1].grad = None
        module.eval()
