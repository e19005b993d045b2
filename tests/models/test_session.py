"""Sessions: what they read, and what they leave alone."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastxai.errors import ArgumentError, CannotRun
from fastxai.models import InputGradients, Model, Scores
from fastxai.types import Preprocess, Settings
from tests.models.conftest import state

Wrap = Callable[..., Model]


class Flagged(RuntimeError):
    """Raised by a module on request."""


def gradients_by_hand(module: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """One target at a time, with parameters that want gradients too: the naive twin. [R, K, C, H, W]."""
    module = copy.deepcopy(module).eval()
    out = []
    for k in range(targets.shape[1]):
        leaf = inputs.clone().requires_grad_()
        module(leaf).gather(1, targets[:, k : k + 1]).sum().backward()
        out.append(leaf.grad)
    return torch.stack(out, dim=1)


TARGETS = torch.tensor([[0, 1, 4], [1, 2, 3], [4, 4, 0], [2, 1, 0], [3, 0, 1], [0, 0, 0]])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_callers_module_is_left_as_it_was_found(net: type[nn.Module], wrap: Wrap, rows: Tensor, precision: str):
    module = net().train()
    module(rows).sum().backward()
    module.last.weight.requires_grad_(False)
    module.act.eval()
    module.conv.register_forward_hook(lambda *_: None)
    before = state(module)
    model = wrap(module)
    with model.open(Settings(precision=precision)) as session:
        session.predict(rows, ("last", "conv")).recordings(TARGETS)
        session.predict(rows)
        session.read(Scores(), rows, TARGETS)
        session.read(InputGradients(), rows, TARGETS)
        session.cam_layer()
    assert state(module) == before


def test_the_callers_module_is_left_as_it_was_found_after_an_error(net: type[nn.Module], wrap: Wrap, rows: Tensor):
    class Sometimes(net):
        def forward(self, x: Tensor) -> Tensor:
            scores = super().forward(x)
            if x.shape[0] == 6:
                raise Flagged
            return scores

    module = Sometimes().train()
    before = state(module)
    with pytest.raises(Flagged), wrap(module).open(Settings()) as session:
        session.predict(rows, ("last",))
    with pytest.raises(Flagged), wrap(module).open(Settings()) as session:
        session.read(InputGradients(), rows, TARGETS)
    assert state(module) == before


def test_global_switches_are_put_back_after_an_error(net: type[nn.Module], wrap: Wrap):
    def work() -> None:
        with wrap(net()).open(Settings(threads=1)):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
            assert torch.get_num_threads() == 1
            raise Flagged

    threads = torch.get_num_threads()
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.raises(Flagged):
            work()
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.cudnn.allow_tf32
        assert torch.get_num_threads() == threads
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_session_sees_training_between_two_openings(net: type[nn.Module], wrap: Wrap, rows: Tensor):
    module = net()
    model = wrap(module)
    with model.open(Settings()) as session:
        first = session.predict(rows).logits
        with torch.no_grad():
            module.head.bias += 1
        assert torch.equal(session.predict(rows).logits, first)
    with model.open(Settings()) as session:
        # one addition of 1 to numbers of size 0.1: float32 rounds by at most 1e-7
        torch.testing.assert_close(session.predict(rows).logits, first + 1, rtol=0, atol=5e-7)


def test_scores_are_those_of_the_module(net: type[nn.Module], wrap: Wrap, rows: Tensor):
    module = net()
    expected = module.eval()(rows).detach()
    with wrap(module).open(Settings()) as session:
        logits = session.read(Scores("logit"), rows, TARGETS)
        chances = session.read(Scores(), rows, TARGETS)
        predicted = session.predict(rows).logits
    # the same float32 sums in another memory format
    torch.testing.assert_close(logits.scores, expected.gather(1, TARGETS), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(chances.scores, expected.softmax(1).gather(1, TARGETS), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(predicted, expected, rtol=1e-5, atol=1e-6)
    assert logits.gradients is None
    assert logits.scores.dtype == torch.float32
    assert not logits.scores.is_inference()


def test_gradients_of_k_targets_are_those_of_one_at_a_time(net: type[nn.Module], wrap: Wrap, rows: Tensor):
    module = net()
    expected = gradients_by_hand(module, rows, TARGETS)
    with wrap(module).open(Settings()) as session:
        together = session.read(InputGradients(), rows, TARGETS)
        alone = [session.read(InputGradients(), rows, TARGETS[:, k : k + 1]).gradients for k in range(3)]
    assert together.gradients is not None
    assert together.gradients.shape == (6, 3, 3, 20, 20)
    assert together.gradients.is_contiguous()
    assert torch.equal(together.gradients, torch.cat(alone, dim=1))
    # float32 in another memory format and another association of the norm's factor
    torch.testing.assert_close(together.gradients, expected, rtol=1e-4, atol=1e-6 * expected.abs().max().item())


def test_gradients_in_bf16_resemble_those_in_fp32(net: type[nn.Module], wrap: Wrap, rows: Tensor):
    model = wrap(net())
    with model.open(Settings()) as session:
        exact = session.read(InputGradients(), rows, TARGETS)
    with model.open(Settings(precision="bf16")) as session:
        assert session.dtype == torch.bfloat16
        rough = session.read(InputGradients(), rows, TARGETS)
    assert rough.gradients.dtype == rough.scores.dtype == torch.float32
    assert not torch.equal(rough.gradients, exact.gradients)
    # Five layers each round by 2^-9 = 0.2% of a number, and a ReLU near zero may flip: a few percent of the norm.
    assert (rough.gradients - exact.gradients).norm() < 0.08 * exact.gradients.norm()
    torch.testing.assert_close(rough.scores, exact.scores, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_row_does_not_depend_on_its_place_or_neighbours(
    net: type[nn.Module], wrap: Wrap, rows: Tensor, precision: str
):
    model = wrap(net())
    other = torch.full_like(rows, 9.0)
    with model.open(Settings(precision=precision)) as session:
        kept = session.read(InputGradients(), rows, TARGETS)
        scores = session.read(Scores(), rows, TARGETS).scores
        prediction = session.predict(rows, ("last",))
        recording = prediction.recordings(TARGETS)["last"]
        for at in range(6):
            for source in (0, 3):
                moved, targets = other.clone(), TARGETS.flip(0).clone()
                moved[at], targets[at] = rows[source], TARGETS[source]
                found = session.read(InputGradients(), moved, targets)
                assert torch.equal(found.gradients[at], kept.gradients[source])
                assert torch.equal(session.read(Scores(), moved, targets).scores[at], scores[source])
                again = session.predict(moved, ("last",))
                assert torch.equal(again.logits[at], prediction.logits[source])
                recorded = again.recordings(targets)["last"]
                assert torch.equal(recorded.activation[at], recording.activation[source])
                assert torch.equal(recorded.gradients[at], recording.gradients[source])


def test_recordings_survive_an_in_place_relu_behind_the_layer(net: type[nn.Module], wrap: Wrap, rows: Tensor):
    module = net().eval()
    with wrap(module).open(Settings()) as session:
        prediction = session.predict(rows, ("conv", "last", "act"))
        found = prediction.recordings(TARGETS)
    with torch.no_grad():
        conv = module.conv(rows)
        last = module.last(module.depthwise(F.relu(module.norm(conv))))
    assert (last < 0).any(), "an in-place ReLU would have left no negative number"
    twin = last.clone().requires_grad_()
    tail = module.head(F.relu(twin).mean(dim=(2, 3)))
    # float32 in another memory format
    torch.testing.assert_close(found["last"].activation, last, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["act"].activation, last.relu(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(prediction.logits, tail.detach(), rtol=1e-5, atol=1e-6)
    for k in range(3):
        (expected,) = torch.autograd.grad(tail.gather(1, TARGETS[:, k : k + 1]).sum(), twin, retain_graph=True)
        torch.testing.assert_close(found["last"].gradients[:, k], expected, rtol=1e-5, atol=1e-7)
    assert found["conv"].gradients.abs().max() > 0, "recording a later layer must not cut off an earlier one"
    assert all(not recording.activation.requires_grad for recording in found.values())


def test_a_prediction_without_layers_builds_no_graph_and_recordings_are_read_once(
    net: type[nn.Module], wrap: Wrap, rows: Tensor
):
    with wrap(net()).open(Settings()) as session:
        prediction = session.predict(rows)
        assert not prediction.logits.requires_grad
        assert not prediction.logits.is_inference()
        assert prediction.recordings(TARGETS) == {}
        recorded = session.predict(rows, ("last",))
        assert not recorded.logits.requires_grad
        recorded.recordings(TARGETS)
        with pytest.raises(RuntimeError, match="freed"):
            recorded.recordings(TARGETS)
        assert not any(part._forward_hooks for part in session._runner.module.modules())


def test_hooks_are_gone_after_an_error(net: type[nn.Module], wrap: Wrap, rows: Tensor):
    with wrap(net()).open(Settings()) as session:
        with pytest.raises(RuntimeError):
            session.predict(torch.zeros(2, 5, 20, 20), ("last",))
        with pytest.raises(ArgumentError, match=r"must run .*'unused'"):
            session.predict(rows, ("unused",))
        with pytest.raises(ArgumentError, match=r"feature maps .*'head'"):
            session.predict(rows, ("head",))
        with pytest.raises(ArgumentError, match="'nowhere'"):
            session.predict(rows, ("nowhere",))
        assert not any(part._forward_hooks for part in session._runner.module.modules())


def test_a_layer_that_returns_a_tuple_is_recorded_by_its_first_tensor(net: type[nn.Module], wrap: Wrap, rows: Tensor):
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, str]:
            return self.conv(x), "aside"

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair, self.head = Pair(), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            maps, aside = self.pair(x)
            assert aside == "aside"
            return self.head(maps.relu_().mean(dim=(2, 3)))

    with wrap(Outer()).open(Settings()) as session:
        recording = session.predict(rows, ("pair",)).recordings(TARGETS)["pair"]
        assert session.cam_layer() == "pair"
    assert recording.activation.shape == (6, 4, 18, 18)
    assert (recording.activation < 0).any()
    assert recording.gradients.shape == (6, 3, 4, 18, 18)


def test_inputs_survive_a_module_that_writes_on_them(net: type[nn.Module], wrap: Wrap, rows: Tensor):
    class Writer(net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mul_(2.0))

    # channels last already, so that the session could take it without a copy
    rows = rows.contiguous(memory_format=torch.channels_last)
    before = rows.clone()
    with wrap(net()).open(Settings()) as session:
        expected = session.read(InputGradients(), 2 * rows, TARGETS)
    with wrap(Writer()).open(Settings()) as session:
        found = session.read(InputGradients(), rows, TARGETS)
        session.read(Scores(), rows, TARGETS)
        session.predict(rows)
        session.predict(rows, ("last",))
    assert torch.equal(rows, before)
    assert torch.equal(found.gradients, 2 * expected.gradients)


@pytest.mark.parametrize("given", [torch.float16, torch.bfloat16, torch.float64])
def test_modules_of_other_types_are_computed_in_float32(
    net: type[nn.Module], wrap: Wrap, rows: Tensor, given: torch.dtype
):
    module = net().to(given)
    with wrap(module).open(Settings()) as session:
        found = session.predict(rows).logits
    expected = copy.deepcopy(module).float().eval()(rows).detach()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)  # another memory format


def test_one_score_with_two_names_stands_for_both(net: type[nn.Module], wrap: Wrap, rows: Tensor):
    class Flat(net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, 0]

    targets = torch.tensor([[0, 1]]).expand(6, 2)
    for module in (net(classes=1), Flat()):
        with wrap(module, ["no", "yes"], "sigmoid").open(Settings()) as session:
            assert session.classes_out == 2
            scores = session.read(Scores(), rows, targets).scores
            gradients = session.read(InputGradients(), rows, targets).gradients
            raw = module.eval()(rows).detach().reshape(6)
        # sigmoid(-z) = 1 - sigmoid(z) up to a rounding of numbers near one
        torch.testing.assert_close(scores.sum(dim=1), torch.ones(6), rtol=0, atol=3e-7)
        torch.testing.assert_close(scores[:, 1], raw.sigmoid(), rtol=1e-5, atol=1e-6)
        assert torch.equal(gradients[:, 0], -gradients[:, 1])


def test_one_score_with_one_name_or_none(net: type[nn.Module], wrap: Wrap, rows: Tensor):
    for classes in (None, ["rain"]):
        with wrap(net(classes=1), classes, "sigmoid").open(Settings()) as session:
            assert session.classes_out == 1
            assert session.read(Scores(), rows, torch.zeros(6, 1, dtype=torch.int64)).scores.shape == (6, 1)
    with pytest.raises(ArgumentError, match="output must be sigmoid"), wrap(net(classes=1)).open(Settings()):
        pass


def test_one_channel_models(net: type[nn.Module], wrap: Wrap, rows: Tensor):
    grey = Preprocess((20, 20), 20, mean=(0.5,), std=(0.5,))
    module = net(channels=1)
    with wrap(module, preprocess=grey).open(Settings()) as session:
        found = session.read(InputGradients(), rows[:, :1], TARGETS)
    expected = gradients_by_hand(module, rows[:, :1], TARGETS)
    assert found.gradients.shape == (6, 3, 1, 20, 20)
    torch.testing.assert_close(found.gradients, expected, rtol=1e-4, atol=1e-6 * expected.abs().max().item())


def test_names_must_be_as_many_as_scores(net: type[nn.Module], wrap: Wrap):
    with pytest.raises(ArgumentError, match="got 2 names for 5"), wrap(net(), ["a", "b"]).open(Settings()):
        pass


def test_a_module_that_cannot_be_copied_is_refused(net: type[nn.Module], wrap: Wrap):
    module = net()
    module.derived = module.conv.weight * 2  # no leaf of the graph: deepcopy refuses it
    with pytest.raises(ArgumentError, match="deepcopy can copy, got Net"), wrap(module).open(Settings()):
        pass


def test_a_model_that_does_not_take_its_own_inputs_says_so(net: type[nn.Module], wrap: Wrap):
    with pytest.raises(CannotRun, match=r"failed on a batch \[2, 3, 20, 20\]"), wrap(net(channels=4)).open(Settings()):
        pass


def test_fp16_is_refused_on_the_cpu(net: type[nn.Module], wrap: Wrap):
    with pytest.raises(ArgumentError, match="fp32 or bf16 on the CPU"):
        wrap(net()).open(Settings(precision="fp16"))
    with pytest.raises(ArgumentError, match="fp32 or bf16 on the CPU"):
        wrap(net(), precision="fp16")


def test_a_closed_session_refuses_work(net: type[nn.Module], wrap: Wrap, rows: Tensor):
    session = wrap(net()).open(Settings())
    with pytest.raises(RuntimeError, match="not open"):
        session.predict(rows)
    with session:
        session.predict(rows)
    with pytest.raises(RuntimeError, match="not open"):
        session.read(Scores(), rows, TARGETS)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_gives_what_the_cpu_gives(net: type[nn.Module], small: Preprocess, rows: Tensor, precision: str):
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    module = net()
    expected = gradients_by_hand(module, rows, TARGETS)
    with Model(module, small, device="cuda").open(Settings("cuda", precision)) as session:
        found = session.read(InputGradients(), rows, TARGETS).gradients.cpu()
        recording = session.predict(rows, (session.cam_layer(),)).recordings(TARGETS)["act"]
    share = {"fp32": 1e-4, "bf16": 0.08, "fp16": 0.01}[precision]  # roundings of 2^-9 and 2^-11 through five layers
    assert (found - expected).norm() < share * expected.norm()
    assert recording.activation.device.type == "cuda"


def test_a_session_at_rest_leaves_the_process_as_it_is(net: type[nn.Module], wrap: Wrap, rows: Tensor):
    before, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    try:
        torch.set_float32_matmul_precision("medium")
        with wrap(net()).open(Settings(threads=threads + 1)) as session:
            first = session.read(Scores(), rows, TARGETS).scores
            assert torch.get_num_threads() == threads + 1
            session.rest()
            assert torch.get_float32_matmul_precision() == "medium" and torch.get_num_threads() == threads
            torch.set_float32_matmul_precision("high")
            session.wake()
            assert torch.get_float32_matmul_precision() == "highest" and torch.get_num_threads() == threads + 1
            assert torch.equal(session.read(Scores(), rows, TARGETS).scores, first)
            session.rest()
            session.rest()
            assert torch.get_float32_matmul_precision() == "high"
        assert torch.get_float32_matmul_precision() == "high" and torch.get_num_threads() == threads
    finally:
        torch.set_float32_matmul_precision(before)
