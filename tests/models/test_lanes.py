"""Lanes: calls side by side, each on its share of the threads, and nothing else of them differs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fastxai.errors import ArgumentError
from fastxai.models import InputGradients, Model, Scores
from fastxai.models.lanes import InTurn, Lanes
from fastxai.types import Settings

Wrap = Callable[..., Model]
TARGETS = torch.tensor([[0], [1], [2], [3], [4], [0]])
PROBES = {"scores": Scores("logit"), "gradients": InputGradients()}


def test_a_lane_has_its_share_of_the_threads_and_the_caller_one():
    before = torch.get_num_threads()
    lanes, meet = Lanes(2, 5), threading.Barrier(2)

    def look() -> tuple[int | None, int]:
        meet.wait(20)  # both lanes are at work at once
        return lanes.number, torch.get_num_threads()

    with lanes.at_work() as work:
        assert torch.get_num_threads() == 1
        results = [work.submit(look) for _ in range(2)]
        assert sorted(result() for result in results) == [(0, 2), (1, 2)]
        assert lanes.number is None
    assert torch.get_num_threads() == before
    lanes.close()


def test_no_lane_is_at_work_when_an_error_leaves():
    lanes, done, told = Lanes(2, 2), list[int](), threading.Event()

    def slow() -> None:
        told.set()
        time.sleep(0.3)
        done.append(1)

    def broken() -> None:
        told.wait(20)
        raise RuntimeError("no such layer")

    def together() -> None:
        with lanes.at_work() as work:
            first, *_ = [work.submit(call) for call in (broken, slow, slow, slow)]
            first()

    with pytest.raises(RuntimeError, match="no such layer"):
        together()
    assert 1 <= len(done) <= 2, "what ran was waited for, what had not begun was forgotten"
    lanes.close()


def test_every_lane_does_what_all_are_to_do():
    lanes, met = Lanes(3, 3), list[int | None]()
    try:
        for _ in range(5):
            lanes.on_each(lambda: met.append(lanes.number))
            assert sorted(met, key=str) == [0, 1, 2]
            met.clear()
    finally:
        lanes.close()


def test_in_turn_a_call_is_made_when_its_result_is_asked_for():
    made = list[int]()
    result = InTurn().submit(lambda: made.append(1))
    assert not made
    result()
    assert made == [1]


@pytest.mark.parametrize("kind", PROBES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("compiled", [False, True])
def test_they_read_what_one_lane_of_their_threads_reads(
    request: pytest.FixtureRequest,
    net: type[nn.Module],
    wrap: Wrap,
    rows: Tensor,
    kind: str,
    precision: str,
    compiled: bool,
):
    if compiled:
        request.getfixturevalue("compiler")
    model, probe = wrap(net()), PROBES[kind]
    settings = {"precision": precision, "compile": (kind,) if compiled else (), "rows": {"scores": len(rows)}}
    with model.open(Settings(**settings, threads=1)) as session:
        expected = session.read(probe, rows, TARGETS)
    with model.open(Settings(**settings, threads=2, lanes=2)) as session, session.at_work(kind) as work:
        found = [result() for result in [work.submit(lambda: session.read(probe, rows, TARGETS)) for _ in range(8)]]
    for reading in found:
        assert torch.equal(reading.scores, expected.scores)
        assert kind == "scores" or torch.equal(reading.gradients, expected.gradients)


def test_what_a_model_keeps_on_itself_meets_no_other_lane(wrap: Wrap, rows: Tensor):
    class Keeps(nn.Module):
        """Its second half reads what the first has kept: with one module in two threads, that of another call."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.kept = self.conv(x).mean(dim=(2, 3))
            time.sleep(0.02)
            return self.kept * 2

    model, targets = wrap(Keeps()), TARGETS % 4
    with model.open(Settings(threads=2, lanes=2)) as session, session.at_work("scores") as work:
        parts = [work.submit(lambda k=k: session.read(Scores("logit"), rows + k, targets)) for k in range(10)]
        found = [part().scores for part in parts]
        expected = [session.read(Scores("logit"), rows + k, targets).scores for k in range(10)]
        assert all(map(torch.equal, found, expected))
        assert len({id(p) for m in (session._runner.module, *session._runner._twins) for p in m.parameters()}) == 2, (
            "weights once"
        )


def test_kinds_that_share_something_are_read_in_turn(net: type[nn.Module], wrap: Wrap):
    with wrap(net()).open(Settings(threads=2, lanes=2)) as session:
        for kind, layers in (("predict", ("conv",)), ("directions", ()), ("injected", ())):
            with session.at_work(kind, layers) as work:
                assert isinstance(work, InTurn)


@pytest.mark.parametrize("compiled", [False, True])
def test_predictions_that_record_nothing_are_made_in_lanes(
    request: pytest.FixtureRequest, net: type[nn.Module], wrap: Wrap, rows: Tensor, compiled: bool
):
    if compiled:
        request.getfixturevalue("compiler")
    settings = {"compile": ("predict",) if compiled else (), "rows": {"predict": len(rows)}}
    model = wrap(net())
    with model.open(Settings(**settings, threads=1)) as session:
        expected = session.predict(rows).logits
    with model.open(Settings(**settings, threads=2, lanes=2)) as session, session.at_work("predict") as work:
        assert not isinstance(work, InTurn)
        parts = [work.submit(lambda: session.predict(rows).logits) for _ in range(8)]
        assert all(torch.equal(part(), expected) for part in parts)


def test_lanes_are_counted_from_one(net: type[nn.Module], wrap: Wrap):
    with pytest.raises(ArgumentError, match="lanes must be"):
        wrap(net()).open(Settings(lanes=0))
