import copy

import pytest
import torch
from torch import nn

from fastxai.errors import ArgumentError
from fastxai.models import Model, Scores, randomised
from fastxai.types import Settings


class Normed(nn.Module):
    """Two convolutions with batch norms, and a parameter of its own beside the layers."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
            self.second = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
            self.head = nn.Linear(8, 4)
            self.scale = nn.Parameter(torch.randn(4))

    def forward(self, x):
        return self.head(self.second(self.first(x)).mean((2, 3))) * self.scale


@pytest.fixture
def model(preprocess):
    module = Normed()
    for norm in (module.first[1], module.second[1]):
        nn.init.normal_(norm.weight)
    return Model(module, preprocess, device="cpu", precision="fp32", compile=False)


def moved(before, after):
    """Names of the parameters whose values stand elsewhere; the values themselves must be the same."""
    found = []
    for (name, old), (_, new) in zip(before.named_parameters(), after.named_parameters(), strict=True):
        assert torch.equal(old.flatten().sort().values, new.flatten().sort().values), name
        if not torch.equal(old, new):
            found.append(name)
    return found


def test_everything_is_shuffled_and_the_caller_s_module_is_not(model):
    before = copy.deepcopy(model.module)
    found = randomised(model, 1.0, 0)
    constant = {"first.1.bias", "second.1.bias"}  # zeros, which have no places
    assert set(moved(before, found.module)) == {name for name, _ in before.named_parameters()} - constant
    assert moved(before, model.module) == []
    assert (found.preprocess, found.output, found.classes) == (model.preprocess, model.output, model.classes)
    assert found.fingerprint != model.fingerprint


def test_the_last_layers_go_first_and_stay_where_they_went(model):
    # layers in order of registration: the module itself (its scale), two convolutions with norms, the head
    stages = [randomised(model, share, 0) for share in (1 / 6, 1 / 2, 1.0)]
    assert set(moved(model.module, stages[0].module)) == {"head.weight", "head.bias"}
    assert {name.split(".")[0] for name in moved(model.module, stages[1].module)} == {"second", "head"}
    assert torch.equal(stages[0].module.head.weight, stages[2].module.head.weight)
    assert torch.equal(stages[0].module.first[1].running_mean, model.module.first[1].running_mean)


def test_a_seed_is_a_draw(model):
    a, b, c = (randomised(model, 1.0, seed).module.first[0].weight for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_norms_see_what_passes_through_them(model):
    """Statistics of other weights would not be those of the layers: activations would drift from layer to layer."""
    found = randomised(model, 1.0, 0)
    outputs = []
    hook = found.module.second[1].register_forward_hook(lambda module, inputs, output: outputs.append(inputs[0]))
    noise = torch.nn.functional.interpolate(torch.rand(64, 3, 8, 8), size=(24, 24), mode="bilinear")
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (model.preprocess.mean, model.preprocess.std))
    found.module((noise - mean) / std)
    hook.remove()
    norm = found.module.second[1]
    seen = outputs[0].transpose(0, 1).flatten(1)
    # other noise of the same kind
    assert (seen.mean(1) - norm.running_mean).abs().max() < 0.5 * seen.std(1).max()
    assert (seen.var(1) / norm.running_var).log().abs().max() < 0.7
    assert not found.module.training and norm.momentum == 0.1


def test_it_runs_like_any_model(model, noise_pictures):
    found = randomised(model, 1.0, 0)
    with found.open(Settings(fold=True)) as session:
        assert session.folded == 2
        scores = session.read(Scores("logit"), torch.randn(2, 3, 24, 24), torch.tensor([[0, 3], [1, 2]])).scores
    assert torch.isfinite(scores).all()


def test_a_wrong_share_is_refused(model):
    with pytest.raises(ArgumentError, match="share must be a number above 0 and at most 1"):
        randomised(model, 0.0, 0)
