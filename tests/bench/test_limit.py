"""The limit: which rows, and which form of the model is found best."""

from __future__ import annotations

import dataclasses
import threading

import pytest
import torch

from fastxai.bench import limit
from fastxai.bench.cases import Need
from fastxai.bench.limit import Passes, limit_turn, reference, search
from fastxai.errors import CannotRun
from fastxai.types import Settings


@pytest.mark.parametrize("need", [Need("scores", 7), Need("gradients", 7), Need("predict", 1)])
def test_an_image_costs_as_many_passes_as_it_has_rows(convolutional, need, monkeypatch):
    now, shapes = [0.0], []
    monkeypatch.setattr(limit, "now", lambda device: now[0])
    passes = Passes(need, 2, ("act",) if need.kind == "predict" else ())
    real = Passes.call

    def call(self, session, inputs, targets):
        real(self, session, inputs, targets)
        shapes.append((tuple(inputs.shape), tuple(targets.shape)))
        now[0] += 0.5  # seconds a call

    monkeypatch.setattr(Passes, "call", call)
    with convolutional.open(Settings()) as session:
        # 4 rows a call of 0.5 s; six calls fit into 3 s, after two to warm up
        assert limit_turn(session, passes, 4, 3.0)() == need.rows * 0.5 / 4
    assert shapes == [((4, 3, 24, 24), (4, 2))] * 8


@pytest.mark.parametrize(("seconds", "timings"), [(0.5, [2, 2, 4, 4, 4]), (8.0, [2, 2, 2])])
def test_all_lanes_are_busy_while_the_limit_is_timed(convolutional, seconds, timings, monkeypatch):
    lock, at, done = threading.Lock(), [0.0], [0]
    seen = []

    def now(device):
        seen.append(done[0])
        return at[0]

    def call(self, session, inputs, targets):
        with lock:
            done[0] += 1
            at[0] += seconds / 2  # of two lanes

    monkeypatch.setattr(limit, "now", now)
    monkeypatch.setattr(Passes, "call", call)
    passes = Passes(Need("gradients", 7), 1)
    with convolutional.open(dataclasses.replace(Settings(), lanes=2, threads=2)) as session:
        assert passes.fastest_row(session, 4, 3.0) == seconds / 2 / 4
    calls = [after - before for before, after in zip(seen[::2], seen[1::2], strict=True)]
    assert calls == timings


def rates(monkeypatch, rate):
    monkeypatch.setattr(Passes, "fastest_row", lambda self, session, size, budget: 1 / rate(session.settings, size))


def test_the_fastest_form_is_found(convolutional, monkeypatch):
    rates(monkeypatch, lambda settings, size: 100 - abs(size - 16) + 50 * settings.fold)
    found = search(convolutional, Settings(), Passes(Need("scores", 7), 1))
    assert str(found.best) == "fp32 eager folded, 16 rows"
    assert found.rates["fp32 eager, 8 rows"] == pytest.approx(92)
    assert not any("compiled" in form for form in found.rates)  # this model was asked not to be
    assert found.failed == {}


def test_a_hopeless_form_is_left_at_its_first_size(convolutional, monkeypatch):
    rates(monkeypatch, lambda settings, size: 100.0 if settings.fold else 10.0)
    found = search(convolutional, dataclasses.replace(Settings(), fold=True), Passes(Need("scores", 7), 1))
    assert [form for form in found.rates if "folded" not in form] == ["fp32 eager, 8 rows"]


def test_a_form_that_does_not_run_is_named(convolutional, monkeypatch):
    def rate(settings, size):
        if size > 8:
            raise torch.OutOfMemoryError("too large")
        return 10.0 * size

    rates(monkeypatch, rate)
    found = search(convolutional, Settings(), Passes(Need("gradients", 7), 1))
    assert found.best.size == 8
    assert "too large" in found.failed["fp32 eager, 16 rows"]

    rates(monkeypatch, lambda settings, size: rate(settings, 99))
    with pytest.raises(CannotRun, match="no form of the model runs"):
        search(convolutional, Settings(), Passes(Need("scores", 7), 1))


def test_the_reference_is_the_model_as_it_is():
    settings = Settings(
        precision="bf16", compile=("scores",), fold=True, rows={"predict": 2, "scores": 3, "gradients": 4}
    )
    assert reference(settings) == Settings(rows=settings.rows)
