"""Ablation-CAM: rows with a channel of a layer set to 0."""

import pytest
import torch
from torch import nn

import fastxai as fx
from fastxai.errors import ArgumentError
from fastxai.models import Model

from .conftest import Counting, Shared, normalized

SETTINGS = fx.Settings(precision="fp32", rows={"predict": 4, "scores": 8, "gradients": 4, "injected": 8})


class Residual(nn.Module):
    """A block that its input goes around: what reaches the scores does not all come through the block's layers."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.stem = nn.Conv2d(3, 10, 3, stride=2, padding=1)
            self.inner = nn.Sequential(nn.Conv2d(10, 10, 3, padding=1), nn.ReLU())
            self.head = nn.Linear(10, 5)

    def forward(self, x):
        x = self.stem(x)
        return self.head((x + self.inner(x)).tanh().mean((2, 3)))


class Flattening(nn.Module):
    """Remembers how many pictures it was given: it cannot have more rows behind a layer than before it."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4, padding=1), nn.ReLU())
            self.head = nn.Linear(6 * 36, 5)

    def forward(self, x):
        return self.head(self.stem(x).reshape(len(x), -1))


def ablation_cam(model, layer, picture, target, channels=None):
    """The paper, a channel after the other."""
    kept = {}

    def record(part, arguments, output):
        kept["maps"] = output.clone()

    part, x = model.module.get_submodule(layer), normalized(model, picture[None])
    with torch.no_grad():
        handle = part.register_forward_hook(record)
        whole = model.module(x)[0, target]
        handle.remove()
        native = torch.zeros_like(kept["maps"][0, 0])
        for channel in range(kept["maps"].shape[1]) if channels is None else channels:

            def ablate(part, arguments, output, channel=channel):
                left = output.clone()
                left[:, channel] = 0
                return left

            handle = part.register_forward_hook(ablate)
            without = model.module(x)[0, target]
            handle.remove()
            native += (whole - without) / whole * kept["maps"][0, channel]
    return native


@pytest.fixture(params=[Residual, Flattening, None], ids=["residual", "flattening", "plain"])
def subject(request, convolutional):
    """A model and a layer of it."""
    if request.param is None:
        return convolutional, "features.0"
    module = request.param()
    layer = "inner" if request.param is Residual else "stem"
    return Model(module, convolutional.preprocess, precision="fp32", compile=False, device="cpu"), layer


@pytest.mark.parametrize("channels", [None, 3])
def test_native_map_is_the_formula(subject, noise_pictures, channels):
    model, layer = subject
    pictures, targets = noise_pictures(3), [[2, 4], [0, 1], [3, 3]]
    explainer = fx.AblationCam(layer=layer, channels=channels)
    found = fx.explain(model, pictures, explainer, targets=targets, settings=SETTINGS)["ablationcam"]
    for image, wanted in enumerate(targets):
        chosen = None
        if channels:
            with torch.no_grad():
                head = model.module.features[0] if layer == "features.0" else None
                x = normalized(model, pictures[image : image + 1])
                if head is not None:
                    maps = head(x)
                else:
                    maps = model.module.inner(model.module.stem(x)) if layer == "inner" else model.module.stem(x)
            chosen = maps[0].flatten(1).std(1).argsort(descending=True)[:channels].tolist()
        for place, target in enumerate(wanted):
            naive = ablation_cam(model, layer, pictures[image], target, chosen)
            # A drop is the difference of two scores that round at 1e-7 of their size, divided by a score.
            torch.testing.assert_close(found.native[image, place], naive, rtol=1e-3, atol=1e-5)


def test_on_a_linear_head_the_weights_are_known(convolutional, noise_pictures):
    """y = b + sum_d W_d mean(A_d): without channel d, W_d mean(A_d) is lost."""
    pictures = noise_pictures(3)
    found = fx.explain(convolutional, pictures, fx.AblationCam(layer="act"), targets=[[1, 4]] * 3, settings=SETTINGS)
    head = convolutional.module.head
    with torch.no_grad():
        maps = convolutional.module.features(normalized(convolutional, pictures)).relu()
        parts = head.weight[[1, 4]] * maps.mean((2, 3)).unsqueeze(1)  # [B, K, D]
        scores = parts.sum(2) + head.bias[[1, 4]]
        wanted = torch.einsum("bkd,bdhw->bkhw", parts / scores.unsqueeze(2), maps)
    # A drop is the difference of two scores that round at 1e-7 of their size, divided by a score.
    torch.testing.assert_close(found["ablationcam"].native, wanted, rtol=1e-3, atol=1e-5)


def test_the_number_of_model_calls_is_exact(convolutional, noise_pictures):
    """What lies before the last layer is run for one picture a chunk of rows."""
    counting = Counting(convolutional.module)
    model = Model(counting, convolutional.preprocess, precision="fp32", compile=False, device="cpu")
    done = []
    config = fx.AblationCam(layer=("module.act", "module.features.0"))
    fx.explain(model, noise_pictures(3), config, targets="top3", settings=SETTINGS, progress=done.append)
    # 3 pictures: one prediction chunk of 4; trying the layer out by 2, 2 and 1 pictures; 3 x 13 rows in 5 chunks of 8,
    # each behind one picture; the same for 3 x 9 rows of the other layer, in 4 chunks
    assert counting.seen[-16:] == [4, 2, 2, 1] + [1] * 5 + [2, 2, 1] + [1] * 4
    assert done[0].rows_total == done[-1].rows_total == done[-1].rows == 3 * (1 + 13 + 9)


def test_where_something_goes_around_the_layer_every_row_has_its_picture(convolutional, noise_pictures):
    counting = Counting(Residual())
    model = Model(counting, convolutional.preprocess, precision="fp32", compile=False, device="cpu")
    fx.explain(model, noise_pictures(3), fx.AblationCam(layer="module.inner"), settings=SETTINGS)
    assert counting.seen[-6:] == [2] + [8] * 5


def test_settings_without_its_kind_of_rows_are_refused(convolutional, noise_pictures):
    settings = fx.Settings(precision="fp32", rows={"predict": 4, "scores": 8})
    with pytest.raises(ArgumentError, match="settings must have rows of 'injected', got {'predict': 4, 'scores': 8}"):
        fx.explain(convolutional, noise_pictures(1), fx.AblationCam(), settings=settings)


def test_a_layer_that_runs_twice_is_refused_before_any_work(convolutional, noise_pictures):
    class Twice(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module, self.again = module, nn.ReLU()
            self.__dict__["seen"] = Shared()

        def forward(self, x):
            self.seen.append(len(x))
            return self.module.head(self.again(-self.again(self.module.features(x))).mean((2, 3)))

    module = Twice(convolutional.module)
    model = Model(module, convolutional.preprocess, precision="fp32", compile=False, device="cpu")
    with pytest.raises(ArgumentError, match="layer must run once in the model's forward pass, got 'again', which runs"):
        fx.explain(model, noise_pictures(3), fx.AblationCam(layer="again"), settings=SETTINGS)
    assert 4 not in module.seen  # no prediction chunk


def test_bf16_and_folded_models_ablate_what_they_recorded(convolutional, noise_pictures):
    """The row that ablates nothing reads the score of the prediction."""
    pictures = noise_pictures(2)
    exact = fx.explain(convolutional, pictures, fx.AblationCam(layer="act"), settings=SETTINGS)["ablationcam"]
    settings = fx.Settings(precision="bf16", fold=True, rows=SETTINGS.rows)
    rough = fx.explain(convolutional, pictures, fx.AblationCam(layer="act"), settings=settings)["ablationcam"]
    # bf16 has 8 bits: drops of some percent of a score are known to some percent of their own size
    assert (rough.native - exact.native).norm() < 0.2 * exact.native.norm()
