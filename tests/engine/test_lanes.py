"""Chunks side by side: the rows of a run are those of one lane, whatever happens in between."""

import threading
from dataclasses import replace

import pytest
import torch

import fastxai as fx
from fastxai.overlap import Stopped
from tests.engine.test_out_of_memory import METHODS, SETTINGS, equal, tight

ONE = replace(SETTINGS, threads=1, rows={"predict": 8, "scores": 4, "gradients": 4})
TWO, THREE = replace(ONE, lanes=2), replace(ONE, lanes=3)  # and all else with one thread, which bits follow from
MORE = (
    *METHODS,
    fx.Lime(samples="auto", surrogate="smooth", sampling="paired", most=256, segments=fx.Grid(3, 3), name="auto"),
    fx.KernelShap(samples=40, segments=fx.Grid(2, 2)),
    fx.Occlusion(window=8, stride=8),
    fx.Rise(samples=20),
    fx.SmoothGrad(samples=5),
    fx.IntegratedGradients(steps=5),
    fx.ScoreCam(layer="module.act"),
)


@pytest.fixture(autouse=True)
def threads_are_put_back():
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("settings", [TWO, THREE], ids=["two", "three"])
def test_every_method_gives_the_bits_of_one_lane(convolutional, noise_pictures, settings):
    model, pictures = tight(convolutional, 100), noise_pictures(9)
    options = {"targets": "top2", "batch": 5}
    equal(
        fx.explain(model, pictures, MORE, settings=settings, **options),
        fx.explain(model, pictures, MORE, settings=ONE, **options),
    )


def test_rows_are_read_side_by_side(convolutional, noise_pictures, monkeypatch):
    from fastxai.explainers.lime import LimeTask

    compose, meet, met, who = LimeTask.inputs, threading.Barrier(2), threading.Event(), set()

    def inputs(self, block):
        if not met.is_set():
            meet.wait(20)  # breaks unless two chunks are composed at once
            met.set()
            who.add(threading.current_thread().name)
        return compose(self, block)

    monkeypatch.setattr(LimeTask, "inputs", inputs)
    fx.explain(convolutional, noise_pictures(2), METHODS[0], settings=TWO)
    assert len(who) == 2


@pytest.mark.parametrize("calls", [0, 9])
def test_a_chunk_that_does_not_fit_is_cut_and_nothing_is_counted_twice(convolutional, noise_pictures, calls):
    pictures, done = noise_pictures(7), []
    wide = replace(TWO, rows={"predict": 4, "scores": 8, "gradients": 8})
    found = fx.explain(
        tight(convolutional, 4, calls=calls), pictures, METHODS, settings=wide, progress=done.append, batch=7
    )
    assert done[-1].rows == done[-1].rows_total == 7 * (1 + 30 + 5 + 1)
    expected = fx.explain(tight(convolutional, 100), pictures, METHODS, settings=ONE, batch=7)
    equal(found, expected, **({} if not calls else {"rtol": 1e-4, "atol": 1e-5}))


def test_an_end_that_is_asked_for_comes_within_a_chunk(convolutional, noise_pictures, tmp_path):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 12

    model, pictures = tight(convolutional, 100), noise_pictures(9)
    with pytest.raises(Stopped):
        fx.run(model, pictures, METHODS, out=tmp_path / "run", settings=TWO, batch=3, stop=stop)
    run = fx.run(model, pictures, METHODS, out=tmp_path / "run", resume=True, batch=3)
    found = run.read(0, 9)
    expected = fx.explain(model, pictures, METHODS, settings=ONE)
    assert found.ids == expected.ids
    equal(found, expected)
