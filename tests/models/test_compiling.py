"""Compiled code: what it gives is what eager code gives, and weights are constants in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fastxai.errors import CannotRun
from fastxai.models import InputGradients, Model, Recording, Scores
from fastxai.types import Settings

Wrap = Callable[..., Model]
TARGETS = torch.tensor([[0, 4], [1, 1], [2, 0], [3, 2], [4, 3], [0, 1]])


@pytest.mark.usefixtures("compiler")
def test_compiled_scores_are_those_of_eager_ones(net: type[nn.Module], wrap: Wrap, rows: Tensor):
    model = wrap(net())
    with model.open(Settings()) as session:
        expected = session.read(Scores("logit"), rows, TARGETS).scores
    with model.open(Settings(compile=("scores",))) as session:
        found = session.read(Scores("logit"), rows, TARGETS).scores
        session.predict(rows, ("last",)).recordings(TARGETS)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)  # fused loops sum in another order


@pytest.mark.usefixtures("compiler")
def test_compiled_code_holds_its_weights_as_constants(net: type[nn.Module], wrap: Wrap, rows: Tensor):
    from torch._dynamo import config

    with config.patch(recompile_limit=1):  # of one code object; beyond it, torch runs eagerly
        for _ in range(3):
            with wrap(net()).open(Settings(compile=("scores",), rows={"scores": len(rows)})) as session:
                before = session.read(Scores("logit"), rows, TARGETS).scores
                with torch.no_grad():
                    for part in session._runner.module.modules():
                        if isinstance(part, nn.Conv2d):
                            part.weight.zero_()
                assert torch.equal(session.read(Scores("logit"), rows, TARGETS).scores, before)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(("precision", "count"), [("fp32", 1), ("bf16", 3)])
def test_compiled_gradients_are_those_of_eager_ones(
    net: type[nn.Module], wrap: Wrap, rows: Tensor, precision: str, count: int
):
    model, targets = wrap(net()), TARGETS[:, :1].expand(-1, count).contiguous()
    with model.open(Settings(precision=precision)) as session:
        expected = session.read(InputGradients(), rows, targets)
    with model.open(Settings(precision=precision, compile=("gradients",))) as session:
        found = session.read(InputGradients(), rows, targets)
        again = session.read(InputGradients(), rows.flip(0), targets.flip(0))
        assert len(session._gradients._compiled) == 1
    assert found.gradients.shape == (len(rows), count, *rows.shape[1:])
    share = {"fp32": 1e-5, "bf16": 0.08}[precision]  # roundings of 2^-9 through five layers, in other places
    assert (found.gradients - expected.gradients).norm() <= share * expected.gradients.norm()
    torch.testing.assert_close(found.scores, expected.scores, rtol=share, atol=share)
    assert torch.equal(again.gradients.flip(0), found.gradients), "a row's place must not matter"


@pytest.mark.usefixtures("compiler")
def test_a_model_that_looks_at_its_numbers_cannot_be_compiled_for_gradients(wrap: Wrap, rows: Tensor):
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return (x if x.sum() > 0 else -x).mean((2, 3))

    with pytest.raises(CannotRun, match="failed on a batch"):
        with wrap(Looks()).open(Settings(compile=("gradients",))) as session:
            session.read(InputGradients(), rows, TARGETS)


def recorded(
    model: Model, settings: Settings, rows: Tensor, *calls: Tensor
) -> list[tuple[Tensor, dict[str, Recording]]]:
    found = []
    with model.open(settings) as session:
        for targets in calls:
            prediction = session.predict(rows, ("depthwise", "last"))
            found.append((prediction.logits, prediction.recordings(targets)))
    return found


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_predictions_record_what_eager_ones_do(net: type[nn.Module], wrap: Wrap, rows: Tensor, precision: str):
    calls = TARGETS, TARGETS[:, :1]  # the targets of a prediction are known only behind its scores
    eager = recorded(wrap(net()), Settings(precision=precision), rows, *calls)
    compiled = recorded(wrap(net()), Settings(precision=precision, compile=("predict",)), rows, *calls)
    share = {"fp32": 1e-5, "bf16": 0.05}[precision]  # as for gradients
    for (expected, layers), (logits, found) in zip(eager, compiled, strict=True):
        torch.testing.assert_close(logits, expected, rtol=share, atol=share)
        for name, layer in layers.items():
            for ours, theirs in zip(vars(found[name]).values(), vars(layer).values(), strict=True):
                assert ours.shape == theirs.shape
                assert ours.dtype == torch.float32
                assert (ours - theirs).norm() <= share * theirs.norm()
    torch.testing.assert_close(compiled[1][1]["last"].gradients, compiled[0][1]["last"].gradients[:, :1])


@pytest.mark.usefixtures("compiler")
def test_predictions_that_record_nothing_are_compiled_too(net: type[nn.Module], wrap: Wrap, rows: Tensor):
    with wrap(net()).open(Settings()) as session:
        expected = session.predict(rows).logits
    with wrap(net()).open(Settings(compile=("predict",))) as session:
        found = session.predict(rows).logits
        assert session._predictor._compiled is not None
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)  # fused loops sum in another order
