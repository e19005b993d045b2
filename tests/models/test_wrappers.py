"""Modules as people have them: wrapped, shared, frozen, hooked, scripted. They work, or say in one line why not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastxai.errors import ArgumentError
from fastxai.models import InputGradients, Model, Scores
from fastxai.types import Settings
from tests.models.conftest import state

Wrap = Callable[..., Model]
TARGETS = torch.tensor([[0, 1], [1, 2], [4, 0], [2, 1], [3, 0], [0, 0]])
FOLDED = Settings(fold=True)


def read(model: Model, rows: Tensor, layers: tuple[str, ...] = ()) -> tuple[Tensor, Tensor]:
    """Scores and input gradients, [6, 5] and [6, 2, 3, 20, 20]; records `layers` on the way."""
    with model.open(FOLDED) as session:
        found = session.read(InputGradients(), rows, TARGETS)
        prediction = session.predict(rows, layers)
        recorded = prediction.recordings(TARGETS)
        assert list(recorded) == list(layers)
        assert all(bool(recording.gradients.abs().sum() > 0) for recording in recorded.values())
        torch.testing.assert_close(
            session.read(Scores("logit"), rows, TARGETS).scores, found.scores, rtol=1e-5, atol=1e-6
        )
    assert found.gradients is not None
    return prediction.logits, found.gradients


def by_autograd(module: nn.Module, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The module's own, with torch alone."""
    leaf = rows.clone().requires_grad_()
    scores = module(leaf)
    wanted = []
    for k in range(TARGETS.shape[1]):
        wanted += torch.autograd.grad(scores.gather(1, TARGETS[:, k : k + 1]).sum(), leaf, retain_graph=True)
    return scores.detach(), torch.stack(wanted, 1)


def agree(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> None:
    # float32 in another memory format, and batch norms rounded into weights
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[1], wanted[1], rtol=1e-3, atol=1e-5 * float(wanted[1].abs().max()))


@pytest.mark.parametrize(
    "prepare",
    [
        lambda module: module.train(),
        lambda module: module.requires_grad_(False),
        lambda module: nn.DataParallel(module),
        lambda module: torch.compile(module),
        lambda module: torch.compile(nn.DataParallel(module)),
        lambda module: module.compile() or module,
        lambda module: module.to(memory_format=torch.channels_last),
    ],
    ids=["training", "frozen", "data parallel", "compiled", "both", "compiled in place", "channels last"],
)
def test_what_says_only_how_to_run_a_module_changes_nothing(
    net: type[nn.Module], wrap: Wrap, rows: Tensor, prepare: Callable[[nn.Module], nn.Module]
):
    module = net()
    wanted = by_autograd(copy.deepcopy(module).eval(), rows)
    prepared = prepare(module)
    before = state(module)
    agree(read(wrap(prepared), rows, ("relu", "act")), wanted)
    assert state(module) == before


@pytest.mark.parametrize("given", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_modules_in_half_precision_on_the_cpu(
    net: type[nn.Module], wrap: Wrap, rows: Tensor, given: torch.dtype, precision: str
):
    module = net().to(given)
    before = state(module)
    wanted = by_autograd(copy.deepcopy(module).float().eval(), rows)
    with wrap(module).open(Settings(precision=precision, fold=True)) as session:
        found = session.predict(rows, ("act",))
        recorded = found.recordings(TARGETS)["act"]
        gradients = session.read(InputGradients(), rows, TARGETS).gradients
    share = {"fp32": 1e-4, "bf16": 0.08}[precision]  # roundings of 2^-9 through five layers
    assert (found.logits - wanted[0]).norm() < share * wanted[0].norm()
    assert (gradients - wanted[1]).norm() < share * wanted[1].norm()
    assert recorded.activation.dtype == torch.float32
    assert state(module) == before


def test_hooks_of_the_caller_s_count(net: type[nn.Module], wrap: Wrap, rows: Tensor):
    """Hooks that change what passes are part of the model, those of the backward pass too."""
    module = net().eval()
    module.conv.register_forward_pre_hook(lambda part, arguments: (0.5 * arguments[0],))
    module.conv.register_forward_hook(lambda part, arguments, output: 2 * output)
    module.norm.register_full_backward_hook(lambda part, inward, outward: (3 * inward[0],))
    module.depthwise.register_full_backward_pre_hook(lambda part, outward: (0.5 * outward[0],))
    module.last.register_full_backward_hook(lambda part, inward, outward: (5 * inward[0],))
    module.relu, module.act = nn.ReLU(), nn.ReLU()  # torch itself refuses in-place ones behind such hooks
    before, wanted = state(module), by_autograd(module, rows)
    plain = net().eval()
    assert not torch.allclose(wanted[1], by_autograd(plain, rows)[1], rtol=0.1), "the hooks do something"
    agree(read(wrap(module), rows, ("conv", "act")), wanted)
    assert state(module) == before


@pytest.mark.parametrize("part", ["conv", "norm"])
def test_what_has_a_backward_hook_is_not_folded_away(net: type[nn.Module], wrap: Wrap, rows: Tensor, part: str):
    module = net().eval()
    module.relu = nn.ReLU()
    module.get_submodule(part).register_full_backward_hook(lambda part, inward, outward: (3 * inward[0],))
    with wrap(module).open(FOLDED) as session:
        assert session.folded == 0
    agree(read(wrap(module), rows), by_autograd(module, rows))


def test_shared_modules(wrap: Wrap, rows: Tensor):
    """One convolution, norm and activation used twice, under two names."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(2)
                self.stem, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 5)
                self.conv, self.norm = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
                self.norm.running_var.uniform_(0.5, 2)
                self.norm.running_mean.uniform_(-1, 1)
            self.act = nn.ReLU(inplace=True)
            self.again = nn.Sequential(self.conv, self.norm, self.act)

        def forward(self, x: Tensor) -> Tensor:
            x = self.act(self.norm(self.conv(self.stem(x))))
            return self.head(self.again(x).mean((2, 3)))

    module = Shared().eval()
    wanted, before = by_autograd(module, rows), state(module)
    agree(read(wrap(module), rows, ("stem", "again")), wanted)
    with wrap(module).open(FOLDED) as session:
        assert session.cam_layer() == "again"
        assert session.folded == 0
    assert state(module) == before


class Answer:
    """An object with scores, as libraries return them."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


@pytest.mark.parametrize(
    "form",
    [lambda scores: (scores, None), lambda scores: {"logits": scores}, Answer, lambda scores: [scores]],
    ids=["tuple", "dict", "object", "list"],
)
def test_forms_of_output_in_every_method(net: type[nn.Module], wrap: Wrap, rows: Tensor, form: Any):
    class Formed(net):
        def forward(self, x: Tensor) -> Any:
            return form(super().forward(x))

    module = Formed()
    wanted = by_autograd(net().eval(), rows)
    before = state(module)
    agree(read(wrap(module), rows, ("act",)), wanted)
    assert state(module) == before


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize("wrapper", [lambda module: module, nn.DataParallel], ids=["bare", "data parallel"])
def test_scripted_modules_are_refused_with_a_reason(wrap: Wrap, wrapper: Any):
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    for scripted in (torch.jit.script(plain), torch.jit.trace(plain, torch.zeros(1, 3, 20, 20))):
        with pytest.raises(ArgumentError, match=r"^module must be .* got one of torch\.jit") as told:
            wrap(wrapper(scripted))
        assert "\n" not in str(told.value)
