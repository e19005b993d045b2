"""Copies to the device and back: none on the CPU; on a GPU they say what the plain ones say."""

import pytest
import torch

from fastxai.transfer import Transfer, seconds

gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU that torch can use")]


def test_nothing_is_copied_on_the_cpu():
    way = Transfer(torch.device("cpu"))
    given = {"a": torch.arange(3)}
    assert way.up(given)()["a"] is given["a"]
    assert way.down(given)()["a"] is given["a"]
    assert way.behind == 0
    before = way.mark()
    assert seconds(before, way.mark()) >= 0


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=gpu)])
def test_there_and_back(device):
    way = Transfer(torch.device(device))
    given = {"a": torch.randn(64, 3, 224, 224), "b": torch.arange(7), "none": torch.zeros(0, 2)}
    begin = way.mark()
    for _ in range(20):  # memory is reused while copies are on their way
        there = way.up(given)()
        assert all(tensor.device.type == device for tensor in there.values())
        made = {name: tensor * 2 for name, tensor in there.items()} | {"host": torch.ones(2)}
        del there
        back = way.down(made)
        del made
        torch.randn(64, 3, 224, 224, device=device)
        end = way.mark()
        found = back()
        assert torch.equal(found["host"], torch.ones(2))
        for name, tensor in given.items():
            assert found[name].device.type == "cpu"
            assert torch.equal(found[name], tensor * 2)
    torch.cuda.synchronize()
    assert seconds(begin, end) > 0


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=gpu)])
def test_a_run_on_the_gpu_holds_what_batches_one_by_one_give(device, convolutional, noise_pictures):
    import fastxai as fx

    methods = (fx.Lime(samples=30, segments=fx.Slic(segments=12)), fx.GradientShap(samples=5), fx.GradCam())
    settings = fx.Settings(device=device, precision="fp32", rows={"predict": 4, "scores": 8, "gradients": 4})
    model = fx.Model(convolutional.module, convolutional.preprocess, precision="fp32", compile=False, device=device)
    alone, together = (fx.explain(model, noise_pictures(33), methods, settings=settings, batch=b) for b in (1, 7))
    assert together.timings["lime"].seconds > 0
    for name in alone:
        for field, value in alone[name].data.items():
            assert torch.equal(value.nan_to_num(-7), together[name].data[field].nan_to_num(-7)), (name, field)
