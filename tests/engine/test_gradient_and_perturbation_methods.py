"""The promises of the engine, kept by every gradient method, occlusion, RISE and the random floor."""

import pytest
import torch
from torch import nn

import fastxai as fx
from fastxai.models import Model
from fastxai.types import Status

BANK = torch.randint(0, 256, (3, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
METHODS = (
    fx.Saliency(attributions=True),
    fx.InputXGradient(attributions=True),
    fx.SmoothGrad(samples=5, attributions=True),
    fx.SmoothGrad(samples=5, variant="vargrad", name="vargrad"),
    fx.IntegratedGradients(steps=5, attributions=True),
    fx.IntegratedGradients(steps=5, baseline="blur", name="ig-blur"),
    fx.ExpectedGradients(samples=5, baseline=BANK, delta=True),
    fx.Occlusion(window=9, stride=5),
    fx.Occlusion(window=9, stride=7, fill="mean", explains="probability", name="occlusion-mean"),
    fx.Rise(samples=30, cells=4),
    fx.Rise(samples=30, cells=4, fill="mean", name="rise-mean"),
    fx.Random(),
    fx.Random(segments=fx.Slic(segments=12), name="random-segments"),
)
ROWS = {"predict": 4, "scores": 8, "gradients": 4}


def fields(found, index):
    """Every number of one image, by method and field."""
    for name in found:
        segments = found[name].segments
        count = None if segments is None else int(segments[index].max()) + 1
        for field, value in found[name].data.items():
            one = value[index]
            yield (name, field), one[..., :count] if field == "weights" else one


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_batch_does_not_matter(convolutional, noise_pictures, precision):
    """One picture alone, first, in the middle and last, in batches of 3, 5 and 7: every number has the same bits."""
    settings = fx.Settings(precision=precision, rows=ROWS)
    others = noise_pictures(7)
    picture, rest = others[:1], others[1:]
    runs = [
        (picture, 0, 7),
        (torch.cat([picture, rest]), 0, 7),
        (torch.cat([rest, picture]), 6, 5),
        (torch.cat([rest[:4], picture, rest[4:]]), 4, 3),
    ]
    results = [
        dict(fields(fx.explain(convolutional, images, METHODS, targets="top2", settings=settings, batch=batch), place))
        for images, place, batch in runs
    ]
    assert len(results[0]) == 21
    for other in results[1:]:
        for key, value in results[0].items():
            assert torch.equal(value, other[key]), key


def test_chunks_do_not_matter(linear, noise_pictures):
    """Readings are folded in row order: with a model that answers the same in any call, chunks leave no trace."""

    class Exact(nn.Module):
        """Scores in whole steps of 1/64, which no order of summation rounds; gradients of it are ones."""

        def forward(self, x):
            plain = x.detach()
            steps = (plain * 64).round().double().sum((1, 2, 3))
            score = (steps / 64).float() + (x - plain).sum((1, 2, 3))
            return torch.stack([score, -score], dim=1)

    model = Model(Exact(), linear.preprocess, precision="fp32", compile=False, device="cpu", output="logits")
    pictures = noise_pictures(3)
    results = []
    for rows in (1, 3, 8, 64):
        settings = fx.Settings(precision="fp32", rows=dict.fromkeys(ROWS, rows))
        results.append(fx.explain(model, pictures, METHODS, targets="all", settings=settings))
    for other in results[1:]:
        for name in results[0]:
            for field, value in results[0][name].data.items():
                if field != "delta":  # the prediction's own call has the last word there
                    assert torch.equal(value.nan_to_num(-7), other[name].data[field].nan_to_num(-7)), (name, field)


class Fragile(nn.Module):
    """Answers NaN for copies in which the first pixel is no longer white, of pictures with a second white pixel."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        marked = x[:, :1, 0, 23] > 2.9
        return self.module(x) * torch.where(marked & (x[:, :1, 0, 0] < 2.9), float("nan"), 1.0)  # gradients too


@pytest.mark.parametrize("method", [fx.SmoothGrad(samples=5), fx.Occlusion(window=9, stride=5), fx.Rise(samples=30)])
def test_nan_in_one_row_fails_that_image_and_no_other(convolutional, noise_pictures, method):
    pictures = noise_pictures(3)
    pictures[:, :, 0, 0], pictures[:, :, 0, 23] = 255, 0
    settings = fx.Settings(precision="fp32", rows=ROWS)
    clean = fx.explain(convolutional, pictures, method, targets=[[1]] * 3, settings=settings)[method.name].maps
    pictures[1, :, 0, 23] = 255
    model = Model(Fragile(convolutional.module), convolutional.preprocess, precision="fp32", device="cpu")
    found = fx.explain(model, pictures, method, targets=[[1]] * 3, settings=settings)
    assert found.status.tolist() == [0, int(Status.MODEL), 0]
    assert method.name in found.errors[1]
    assert torch.isnan(found[method.name].maps[1]).all()
    for index in (0, 2):
        assert torch.equal(found[method.name].maps[index], clean[index])


class Tight(nn.Module):
    """Has memory for so many rows."""

    def __init__(self, module, rows):
        super().__init__()
        self.module, self.rows = module, rows

    def forward(self, x):
        if len(x) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return self.module(x)


def test_where_memory_runs_out_no_row_is_lost_or_counted_twice(convolutional, noise_pictures):
    def explain(room, rows):
        model = Model(Tight(convolutional.module, room), convolutional.preprocess, precision="fp32", device="cpu")
        settings = fx.Settings(precision="fp32", rows={"predict": 4, "scores": rows, "gradients": rows})
        return fx.explain(model, noise_pictures(3), METHODS, targets="top2", settings=settings)

    halved, small = explain(4, 16), explain(64, 4)
    for name in small:
        for field, value in small[name].data.items():
            assert torch.equal(value.nan_to_num(-7), halved[name].data[field].nan_to_num(-7)), (name, field)


def test_the_callers_module_is_left_alone(convolutional, noise_pictures):
    module = convolutional.module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    flags = [(p.requires_grad, p.grad) for p in module.parameters()]
    training = [m.training for m in module.modules()]
    fx.explain(convolutional, noise_pictures(2), METHODS, settings=fx.Settings(precision="fp32", rows=ROWS))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert [(p.requires_grad, p.grad) for p in module.parameters()] == flags
    assert [m.training for m in module.modules()] == training
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in module.modules())


def test_one_channel_and_one_score():
    pre = fx.Preprocess((8, 8), None, "bilinear", (0.5,), (0.25,))
    model = Model(nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), pre, output="sigmoid", precision="fp32", device="cpu")
    pictures = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    methods = (fx.Saliency(absolute=False), fx.Occlusion(2, 2), fx.Rise(samples=20, cells=2), fx.Random())
    found = fx.explain(model, pictures, methods, settings=fx.Settings(precision="fp32", rows=ROWS))
    assert torch.equal(found["saliency"].maps[0, 0], model.module[1].weight.detach().reshape(8, 8))
    for method in methods:
        assert found[method.name].maps.shape == (2, 1, 8, 8)
        assert torch.isfinite(found[method.name].maps).all()


def test_a_run_on_disk_gives_them_back(convolutional, noise_pictures, tmp_path):
    pictures, settings = noise_pictures(3), fx.Settings(precision="fp32", rows=ROWS)
    found = fx.explain(convolutional, pictures, METHODS, targets="top2", settings=settings)
    run = fx.run(convolutional, pictures, METHODS, out=tmp_path / "run", targets="top2", settings=settings)
    again = fx.open_run(tmp_path / "run")
    assert not run.failures
    for method in METHODS:
        stored = again[method.name][:]
        for field, value in found[method.name].data.items():
            assert torch.equal(stored.data[field].nan_to_num(-7), value.nan_to_num(-7)), (method.name, field)
