"""What calibration settles, and that it honours what was asked for."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from fastxai.errors import ArgumentError, CannotRun
from fastxai.models import Session, calibrate
from fastxai.models.calibrate import fast_bf16
from fastxai.types import Settings

module = sys.modules["fastxai.models.calibrate"]  # the package exports the function under the same name


def test_a_small_model(wrap: Any, net: Any):
    state = torch.get_rng_state()
    settings = calibrate(wrap(net()), kinds={"scores": 1000, "gradients": 20}, targets=2, layers=("last",))
    assert settings.device == "cpu"
    assert settings.precision in ("fp32", "bf16")
    assert settings.compile == ()
    assert settings.rows["predict"] == 8
    assert settings.rows["scores"] in (4, 8, 16, 32)
    assert settings.rows["gradients"] in (4, 8, 16, 32)
    assert settings.threads == torch.get_num_threads()
    assert set(settings.reasons) == {"device", "precision", "compile", "fold", "threads", "lanes", "rows"}
    assert all(settings.reasons.values())
    assert torch.equal(torch.get_rng_state(), state), "calibrating must not move the caller's generator"
    with wrap(net()).open(settings) as session:
        assert isinstance(session, Session)


def test_injected_rows_are_timed_at_their_layer(monkeypatch: pytest.MonkeyPatch, wrap: Any, net: Any):
    monkeypatch.setattr(module, "_SEARCHED", 0.0)
    model = wrap(net(), precision="fp32")
    settings = calibrate(model, kinds={"injected": 40}, layers=("conv", "last"), injected="last")
    assert settings.rows["injected"] in (8, 16, 32, 64)
    assert settings.rates["injected"] > 0
    with pytest.raises(ArgumentError, match="injected must be a layer where rows are injected, got ''"):
        calibrate(model, kinds={"injected": 40}, layers=("last",))


def test_what_was_asked_for_is_honoured(wrap: Any, net: Any):
    for precision in ("fp32", "bf16"):
        settings = calibrate(wrap(net(), precision=precision, compile=False), kinds={})
        assert (settings.precision, settings.reasons["precision"]) == (precision, "as asked")
    asked = wrap(net(), precision="fp32", compile=True, fold=False)
    assert calibrate(asked, kinds={"scores": 1, "gradients": 1}).compile == ("scores", "gradients")
    many = calibrate(asked, kinds={"gradients": 1}, targets=9)
    assert many.compile == ()
    assert "too long to compile" in many.reasons["compile"]
    nothing = calibrate(asked, kinds={})
    assert (nothing.compile, nothing.fold) == ((), False)
    assert "nothing that can be compiled" in nothing.reasons["compile"]


def test_chunks_are_no_larger_than_the_work(monkeypatch: pytest.MonkeyPatch, wrap: Any, net: Any):
    monkeypatch.setattr(module, "_SEARCHED", 0.0)
    settings = calibrate(wrap(net(), precision="fp32"), kinds={"scores": 3, "gradients": 5})
    assert settings.rows["scores"] == 4
    assert settings.rows["gradients"] <= 8


@pytest.mark.parametrize(
    ("speeds", "chosen"),
    [
        ({4: 100, 8: 200, 16: 202, 32: 204}, 8),  # larger ones are not 3% faster
        ({4: 100, 8: 101, 16: 102, 32: 120}, 32),
        ({4: 100, 8: 120, 16: 130, 32: 90}, 16),
    ],
)
def test_the_smallest_chunk_that_is_about_as_fast(
    monkeypatch: pytest.MonkeyPatch, wrap: Any, net: Any, speeds: dict[int, float], chosen: int
):
    monkeypatch.setattr(module, "_seconds", lambda sessions, kind, rows, *_: [rows / speeds[rows]] * len(sessions))
    settings = calibrate(wrap(net(), precision="fp32", compile=False), kinds={"scores": 100_000})
    assert settings.rows["scores"] == chosen
    assert settings.rates["scores"] == speeds[chosen]


def test_a_short_run_is_not_kept_waiting_for_a_search(monkeypatch: pytest.MonkeyPatch, wrap: Any, net: Any):
    seen = []

    def seconds(sessions: Any, kind: str, rows: int, *_: Any) -> list[float]:
        seen.append((kind, rows))
        return [0.1 * rows]

    monkeypatch.setattr(module, "_seconds", seconds)
    settings = calibrate(wrap(net(), precision="fp32"), kinds={"scores": 400})
    assert seen == [("scores", 8)]
    assert settings.rows["scores"] == 8
    assert settings.rates["scores"] == 10.0


@pytest.mark.parametrize(("ratio", "chosen"), [(1.05, "fp32"), (1.5, "bf16")])
def test_bf16_is_taken_where_it_is_measured_to_pay(
    monkeypatch: pytest.MonkeyPatch, wrap: Any, net: Any, ratio: float, chosen: str
):
    seconds = {torch.float32: ratio, torch.bfloat16: 1.0}
    monkeypatch.setattr(module, "fast_bf16", lambda: True)
    monkeypatch.setattr(module, "_seconds", lambda sessions, *_: [seconds[session.dtype] for session in sessions])
    settings = calibrate(wrap(net()), kinds={"scores": 4})
    assert settings.precision == chosen
    assert f"{ratio:.2f}x" in settings.reasons["precision"]
    monkeypatch.setattr(module, "fast_bf16", lambda: False)
    assert calibrate(wrap(net()), kinds={"scores": 4}).precision == "fp32"


def test_unknown_kinds_and_layers_are_refused(wrap: Any, net: Any):
    message = "kinds must be of predict, scores, gradients, directions, injected, got 'tangents'"
    with pytest.raises(ArgumentError, match=message):
        calibrate(wrap(net()), kinds={"tangents": 4})
    with pytest.raises(ArgumentError, match="'nowhere'"):
        calibrate(wrap(net(), precision="fp32"), kinds={}, layers=("nowhere",))
    assert isinstance(fast_bf16(), bool)
    assert calibrate(wrap(net(), precision="fp32"), kinds={}) == Settings(
        "cpu", "fp32", fold=True, threads=torch.get_num_threads()
    )


def test_a_run_is_compiled_where_that_is_measured_to_pay(monkeypatch: pytest.MonkeyPatch, wrap: Any, net: Any):
    opened = []

    def fake(sessions: list[Session], kind: str, rows: int, targets: int, budget: float) -> list[float]:
        opened.append([session.settings.compile for session in sessions])
        return [rows * (0.1 if session.settings.compile else gain * 0.1) for session in sessions]

    monkeypatch.setattr(module, "_seconds", fake)
    monkeypatch.setattr(Session, "_compile", lambda session: None)  # 20 s
    for gain, chosen in ((1.3, True), (1.01, False)):
        for kind in ("scores", "gradients"):
            found = calibrate(wrap(net(), precision="fp32"), kinds={kind: 100_000})
            assert found.compile == ((kind,) if chosen else ())
            assert f"{kind}: compiled code was measured {gain:.2f}x as fast" in found.reasons["compile"].replace(
                "eager: ", ""
            )
            assert [(kind,), ()] in opened
    mixed = calibrate(wrap(net(), precision="fp32"), kinds={"scores": 100_000, "gradients": 1})
    assert mixed.compile == ()  # by the last gain
    gain = 1.3
    mixed = calibrate(wrap(net(), precision="fp32"), kinds={"scores": 100_000, "gradients": 1})
    assert mixed.compile == ("scores",)
    short = calibrate(wrap(net(), precision="fp32"), kinds={"scores": 100})
    assert not short.compile
    assert "too few to earn" in short.reasons["compile"]


def test_no_compiler_means_eager_and_says_so(monkeypatch: pytest.MonkeyPatch, wrap: Any, net: Any):
    def refuse(device: torch.device) -> None:
        raise CannotRun("compile needs a C++ compiler")

    monkeypatch.setattr(sys.modules["fastxai.models.session"], "check_compiler", refuse)
    monkeypatch.setattr(module, "_COMPILED", 0.0)
    found = calibrate(wrap(net(), precision="fp32"), kinds={"scores": 10})
    assert not found.compile
    assert found.reasons["compile"] == "scores: eager: compile needs a C++ compiler"
