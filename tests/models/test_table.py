"""Every family of classifiers: the layer found, the module's own scores and gradients, and a module left alone."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fastxai as fx
from fastxai.errors import ArgumentError, CannotRun
from fastxai.explainers import EXPLAINERS, Explainer
from fastxai.models import InputGradients, Scores
from fastxai.models.runner import Runner
from fastxai.types import Settings
from tests.models.conftest import state
from tests.models.table import TABLE, Entry, noise

SETTINGS = Settings(fold=True, rows={"predict": 2, "scores": 8, "gradients": 4, "directions": 2, "injected": 8})
TARGETS = torch.tensor([[1, 7], [4, 0], [9, 2], [3, 3]])
# Options that a method may have, at their least: what is looked at here does not get better with more.
SMALL = {"samples": 4, "steps": 2, "channels": 3, "window": 16, "stride": 16}
OF_DATA = {"expected-gradients": {"baseline": torch.zeros(1, 3, 64, 64, dtype=torch.uint8)}}


@pytest.fixture(scope="module", params=TABLE, ids=[entry.name for entry in TABLE])
def entry(request: pytest.FixtureRequest) -> Iterator[Entry]:
    yield request.param
    vars(request.param).pop("module", None)  # one network at a time in memory


@pytest.fixture(scope="module")
def exact(entry: Entry) -> nn.Module:
    """The module in float64, where no rounding decides on which side of zero a number lies."""
    return copy.deepcopy(entry.module).double()


def method(name: str) -> Explainer:
    """A method of the registry with as little work as it takes."""
    found = EXPLAINERS.find(name)
    options: dict[str, Any] = {f.name: SMALL[f.name] for f in dataclasses.fields(found) if f.name in SMALL}
    return found(**options, **OF_DATA.get(name, {}))  # type: ignore[return-value]


def methods_for(entry: Entry) -> list[str]:
    """All methods; but activations cannot be put in the place of tokens."""
    return [name for name in EXPLAINERS.names() if name != "ablationcam" or entry.form in ("maps", "last")]


def distance(found: Tensor, wanted: Tensor) -> Tensor:
    """The distance of two tensors as a share of the second's norm, for each image [B]."""
    return (found.double() - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)


def test_scores_and_gradients_are_the_module_s_own(entry: Entry, exact: nn.Module):
    inputs = noise(4, entry.side)
    leaf = inputs.double().requires_grad_()
    scores = exact(leaf)
    wanted = []
    for k in (0, 1):
        wanted += torch.autograd.grad(scores.gather(1, TARGETS[:, k : k + 1]).sum(), leaf, retain_graph=True)
    with entry.model().open(SETTINGS) as session:
        assert session.folded == entry.folded
        chosen = session.read(Scores("logit"), inputs, TARGETS).scores
        predicted = session.predict(inputs).logits
        gradients = session.read(InputGradients(), inputs, TARGETS).gradients
    # Dozens of float32 layers, each rounding at 6e-8, and one rounding more where a norm is folded.
    assert distance(predicted, scores.detach()).max() < 5e-4
    torch.testing.assert_close(
        chosen, predicted.gather(1, TARGETS), rtol=1e-3, atol=1e-4 * float(predicted.abs().max())
    )
    # A ReLU or the maximum of a pool that falls on the other side in float64 moves a picture's gradient by a percent
    # or two; in pictures without one, and with most architectures there are such, nothing but roundings is left.
    found = distance(gradients, torch.stack(wanted, 1))
    assert found.max() < 0.05
    assert found.min() < (0.02 if entry.kinks else 1e-4)


def test_grad_cam_is_that_of_hooks_on_the_layer(entry: Entry, exact: nn.Module):
    pictures = ((noise(4, entry.side) + 1) / 2 * 255).round().to(torch.uint8)
    found = fx.explain(entry.model(), pictures, fx.GradCam(), targets=TARGETS, settings=SETTINGS)["gradcam"]
    wanted = grad_cam_by_hand(exact, entry, pictures.double() / 255 * 2 - 1)
    assert found.native.shape == wanted.shape
    assert min(wanted.shape[2:]) > 1
    assert distance(found.native, wanted).max() < 1e-3  # as the scores; between layer and scores little can flip


def test_the_layer_that_is_found(entry: Entry):
    with entry.model().open(Settings()) as session:
        assert session.cam_layer() == entry.layer
        layout = session._lookup.traced().layout(entry.layer, session._lookup.tokens)
        assert layout.form == {"maps": "[B, D, h, w]", "last": "[B, h, w, D]"}.get(
            entry.form, f"[B, {entry.form.removeprefix('0 + ').replace('x', '*')}, D]"
        )


def test_every_method_leaves_the_module_as_it_was(entry: Entry, monkeypatch: pytest.MonkeyPatch):
    before, calls = state(entry.module), count_calls(monkeypatch)
    methods = [method(name) for name in methods_for(entry)]
    found = fx.explain(entry.model(), picture(entry), methods, targets=1, settings=SETTINGS)
    assert [int(status) for status in found.status] == [0], found.errors
    assert state(entry.module) == before
    calls.allowed = len(calls) // 2
    calls.clear()
    with pytest.raises((Flagged, CannotRun)):
        fx.explain(entry.model(), picture(entry), methods, targets=1, settings=SETTINGS)
    assert state(entry.module) == before


@pytest.mark.parametrize("name", EXPLAINERS.names())
@pytest.mark.parametrize("family", ["resnet18", "timm vit"])
def test_a_method_whose_last_call_fails_leaves_the_module_as_it_was(
    family: str, name: str, monkeypatch: pytest.MonkeyPatch
):
    (entry,) = [entry for entry in TABLE if entry.name == family]
    if name not in methods_for(entry):
        with pytest.raises(ArgumentError, match="have it replaced"):
            fx.explain(entry.model(), picture(entry), method(name), targets=1, settings=SETTINGS)
        return
    before, calls = state(entry.module), count_calls(monkeypatch)
    fx.explain(entry.model(), picture(entry), method(name), targets=1, settings=SETTINGS)
    assert state(entry.module) == before
    calls.allowed = len(calls) - 1
    calls.clear()
    with pytest.raises((Flagged, CannotRun)):
        fx.explain(entry.model(), picture(entry), method(name), targets=1, settings=SETTINGS)
    assert state(entry.module) == before


class Flagged(RuntimeError):
    """Raised in the middle of a model's work."""


class Calls(list[int]):
    """The forward passes of sessions; one more than `allowed` fails."""

    allowed: int = 10**9


def count_calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls, run = Calls(), Runner.run

    def counted(self: Runner, forward: Any, inputs: Tensor, **options: Any) -> Tensor:
        if len(calls) == calls.allowed:
            raise Flagged
        calls.append(len(inputs))
        return run(self, forward, inputs, **options)

    monkeypatch.setattr(Runner, "run", counted)
    return calls


def picture(entry: Entry) -> Tensor:
    return ((noise(1, entry.side) + 1) / 2 * 255).round().to(torch.uint8)


def grad_cam_by_hand(module: nn.Module, entry: Entry, inputs: Tensor) -> Tensor:
    """The naive twin: one target at a time, a hook that copies the layer's output. [B, K, h, w]."""
    kept: list[Tensor] = []

    def keep(part: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        kept.append(output)
        return output.clone()  # an activation in place goes on with this one

    def as_maps(output: Tensor) -> Tensor:
        if entry.form == "maps":
            return output
        if entry.form == "last":
            return output.permute(0, 3, 1, 2)
        prefix, height, width = (int(word) for word in entry.form.split() if word.isdigit())
        return output[:, prefix:].reshape(len(output), height, width, -1).permute(0, 3, 1, 2)

    handle = module.get_submodule(entry.layer).register_forward_hook(keep)
    try:
        scores = module(inputs)
    finally:
        handle.remove()
    (layer,) = kept
    native = []
    for k in (0, 1):
        (gradient,) = torch.autograd.grad(scores.gather(1, TARGETS[:, k : k + 1]).sum(), layer, retain_graph=True)
        weights = as_maps(gradient).mean((2, 3), keepdim=True)
        native.append((weights * as_maps(layer.detach())).sum(1))
    return torch.stack(native, 1)
