"""Memory that ends in the middle of a run: chunks get smaller, and nothing is lost or counted twice."""

import json

import pytest
import torch
from torch import nn

import fastxai as fx
from fastxai.errors import CannotRun
from fastxai.memory import out_of_memory
from fastxai.models import Model, Session
from fastxai.store import open_run

METHODS = (
    fx.Lime(samples=30, segments=fx.Grid(3, 3)),
    fx.GradientShap(samples=5, attributions=True),
    fx.GradCam(layer="module.act"),
)
SETTINGS = fx.Settings(precision="fp32", rows={"predict": 8, "scores": 16, "gradients": 8})
SMALL = fx.Settings(precision="fp32", rows={"predict": 4, "scores": 4, "gradients": 4})
MESSAGES = {
    "torch": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    "allocator": RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "host": MemoryError("Unable to allocate 3.00 GiB for an array"),
}


class Tight(nn.Module):
    """Has memory for so many rows, or from some call on."""

    def __init__(self, module, rows, error="torch", calls=0):
        super().__init__()
        self.module, self.rows, self.error, self.calls = module, rows, error, calls
        self.__dict__["made"] = Shared([0])

    def forward(self, x):
        self.made[0] += 1
        if len(x) > self.rows and self.made[0] > self.calls:
            raise MESSAGES[self.error]
        return self.module(x)


class Shared(list):
    def __deepcopy__(self, memo):
        return self


def tight(convolutional, rows, **options):
    module = Tight(convolutional.module, rows, **options)
    return Model(module, convolutional.preprocess, precision="fp32", compile=False, device="cpu")


def equal(found, other, **tolerance):
    for name in found:
        for field, value in found[name].data.items():
            torch.testing.assert_close(value, other[name].data[field], **({"rtol": 0, "atol": 0} | tolerance))


@pytest.mark.parametrize("error", MESSAGES)
def test_the_results_are_those_of_small_chunks(convolutional, noise_pictures, error):
    pictures = noise_pictures(7)
    options = {"targets": "top2", "batch": 7}
    found = fx.explain(tight(convolutional, 4, error=error), pictures, METHODS, settings=SETTINGS, **options)
    small = fx.explain(tight(convolutional, 100), pictures, METHODS, settings=SMALL, **options)
    assert not found.failures
    equal(found, small)
    assert found.timings["lime"].rows == 7 * 30
    assert found.timings["gradient-shap"].rows == small.timings["gradient-shap"].rows


def test_predictions_that_record_nothing_get_smaller_too(convolutional, noise_pictures):
    pictures = noise_pictures(7)
    found = fx.explain(tight(convolutional, 4), pictures, METHODS[0], settings=SETTINGS, batch=7)
    assert not found.failures
    equal(found, fx.explain(tight(convolutional, 100), pictures, METHODS[0], settings=SMALL, batch=7))


def test_memory_that_ends_later_loses_and_repeats_nothing(convolutional, noise_pictures):
    pictures = noise_pictures(7)
    done = []
    late = tight(convolutional, 4, calls=9)
    found = fx.explain(late, pictures, METHODS, settings=SETTINGS, progress=done.append)
    assert done[-1].rows == done[-1].rows_total == 7 * (1 + 30 + 5 + 1)
    # chunks of another size round differently
    equal(found, fx.explain(tight(convolutional, 100), pictures, METHODS, settings=SETTINGS), rtol=1e-4, atol=1e-5)


def test_composing_a_chunk_may_be_what_does_not_fit(convolutional, noise_pictures, monkeypatch):
    from fastxai.explainers.coalition_task import CoalitionTask

    compose = CoalitionTask.inputs

    def inputs(self, block):
        if len(block) > 4:
            raise MESSAGES["host"]
        return compose(self, block)

    lime = fx.Lime(samples=30, segments=fx.Grid(3, 3))
    small = fx.explain(convolutional, noise_pictures(3), lime, settings=SMALL)
    monkeypatch.setattr(CoalitionTask, "inputs", inputs)
    equal(fx.explain(convolutional, noise_pictures(3), lime, settings=SETTINGS), small)


def test_the_smaller_size_is_kept_and_recorded(convolutional, noise_pictures, tmp_path):
    model = tight(convolutional, 5)
    run = fx.run(model, noise_pictures(20), METHODS, out=tmp_path / "run", settings=SETTINGS, batch=5, shard_images=10)
    assert run.summary.rows == {"predict": 4, "scores": 4, "gradients": 4}
    assert run.summary.halved == run.summary.rows
    assert run.summary.settings == SETTINGS
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["rows"] == dict(SETTINGS.rows)
    assert open_run(tmp_path / "run").info()["halved"] == run.summary.rows
    # opening the session twice, one chunk of each kind that failed (scores twice: 16, 8), the rest fits at once
    calls = -(-5 // 4) * 4 + -(-5 * 30 // 4) * 4 + -(-5 * 5 // 4) * 4 + 4
    overhead = model.module.made[0] - calls - 4
    model.module.made[0] = 0
    fx.run(model, noise_pictures(20), METHODS, out=tmp_path / "again", settings=SMALL, batch=5)
    assert model.module.made[0] == overhead + calls
    assert open_run(tmp_path / "again").info()["halved"] == {}


def test_without_memory_for_one_row_the_run_ends_in_one_line(convolutional, noise_pictures):
    model = tight(convolutional, 0, calls=9)
    with pytest.raises(
        CannotRun, match=r"out of memory on cpu with one row at a time \((predict|scores)\): use a"
    ) as told:
        fx.explain(model, noise_pictures(3), METHODS, settings=SETTINGS)
    assert "\n" not in str(told.value)


def test_memory_that_ends_beside_the_model_names_the_batch(convolutional, noise_pictures, monkeypatch):
    from fastxai.explainers.lime import LimeTask

    def finish(self):
        raise MESSAGES["allocator"]

    monkeypatch.setattr(LimeTask, "finish", finish)
    with pytest.raises(CannotRun, match="beside the model's work on 3 images: use a smaller batch"):
        fx.explain(convolutional, noise_pictures(3), METHODS[:1], settings=SETTINGS)


def test_other_errors_are_passed_on(convolutional, noise_pictures, monkeypatch):
    def broken(self, probe, inputs, targets):
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr(Session, "read", broken)
    with pytest.raises(RuntimeError, match="device-side assert"):
        fx.explain(convolutional, noise_pictures(1), METHODS[:1], settings=SETTINGS)
    assert not out_of_memory(RuntimeError("device-side assert triggered"))
    assert not out_of_memory(CannotRun("out of memory on cpu"))
