"""Scores with other activations in the place of a layer's output."""

import pytest
import torch
from torch import nn

from fastxai.errors import ArgumentError
from fastxai.models import InjectedScores, Scores, pack_injections
from fastxai.models.probes import unpack_injections
from fastxai.types import Settings

SETTINGS = Settings(precision="fp32")
TARGETS = torch.tensor([[0, 3]] * 6)


def hooks(session):
    return [part for part in session._runner.module.modules() if part._forward_hooks or part._forward_pre_hooks]


def test_packing_is_undone():
    pictures, activations = torch.randn(4, 3, 5, 6), torch.randn(4, 7, 2, 3)
    packed = pack_injections(pictures, activations)
    assert packed.shape == (4, 3 * 5 * 6 + 7 * 2 * 3)
    found = unpack_injections(packed, (3, 5, 6), (7, 2, 3))
    assert torch.equal(found[0], pictures)
    assert torch.equal(found[1], activations)


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("layer", ["conv", "norm", "last", "act"])
def test_what_was_recorded_gives_the_scores_again(net, wrap, rows, layer, fold):
    with wrap(net()).open(Settings(precision="fp32", fold=fold)) as session:
        prediction = session.predict(rows, (layer,))
        activation = prediction.recordings(TARGETS)[layer].activation
        probe = InjectedScores(layer, session.map_shape(layer))
        assert probe.shape == activation.shape[1:]
        found = session.read(probe, pack_injections(rows, activation), TARGETS)
        # The same numbers from the same layers. The prediction read them from a graph: float32 may round otherwise.
        torch.testing.assert_close(found.scores, prediction.logits.gather(1, TARGETS), rtol=1e-5, atol=1e-6)
        other = session.read(probe, pack_injections(rows, activation.flip(0)), TARGETS)
        torch.testing.assert_close(other.scores, found.scores.flip(0), rtol=1e-5, atol=1e-6)
        assert hooks(session) == []
        again = session.read(Scores("logit"), rows, TARGETS)
        torch.testing.assert_close(again.scores, found.scores, rtol=1e-5, atol=1e-6)


def test_the_rows_are_not_written_on(net, wrap, rows):
    """An in-place ReLU follows the layer."""
    with wrap(net()).open(SETTINGS) as session:
        packed = pack_injections(rows, -torch.rand(6, *session.map_shape("last")))
        before = packed.clone()
        session.read(InjectedScores("last", session.map_shape("last")), packed, TARGETS)
        assert torch.equal(packed, before)


def test_a_layer_of_another_shape_is_refused_and_nothing_stays(net, wrap, rows):
    with wrap(net()).open(SETTINGS) as session:
        probe = InjectedScores("last", (12, 3, 3))
        with pytest.raises(ArgumentError, match=r"layer must give \[12, 3, 3\] an image .* 'last', which gives \[12, "):
            session.read(probe, pack_injections(rows, torch.zeros(6, 12, 3, 3)), TARGETS)
        assert hooks(session) == []
        with pytest.raises(ArgumentError, match="layer must run once"):
            session.check_injection(InjectedScores("unused", (4, 3, 3)))
        assert hooks(session) == []


def test_positions_first_layers_are_replaced_as_they_are_recorded(wrap, rows):
    class PositionsFirst(nn.Module):
        def __init__(self):
            super().__init__()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.stem, self.mix, self.head = nn.Conv2d(3, 7, 4, stride=4), nn.Linear(7, 9), nn.Linear(9, 5)

        def forward(self, x):
            return self.head(self.mix(self.stem(x).movedim(1, -1)).relu().mean((1, 2)))

    with wrap(PositionsFirst()).open(SETTINGS) as session:
        prediction = session.predict(rows, ("mix",))
        activation = prediction.recordings(TARGETS)["mix"].activation
        assert session.map_shape("mix") == (9, 5, 5)
        found = session.read(InjectedScores("mix", (9, 5, 5)), pack_injections(rows, activation), TARGETS)
        torch.testing.assert_close(found.scores, prediction.logits.gather(1, TARGETS), rtol=1e-5, atol=1e-6)


class Hidden(nn.Module):
    """The picture goes around the layer where no gradient follows it."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        with torch.no_grad():
            light = x.mean((1, 2, 3)).unsqueeze(1)
        return self.module(x) + light


def test_a_way_around_the_layer_that_has_no_gradient_is_found(net, wrap, rows):
    with wrap(Hidden(net())).open(SETTINGS) as session:
        prediction = session.predict(rows, ("module.act",))
        activation = prediction.recordings(TARGETS)["module.act"].activation
        probe = InjectedScores("module.act", session.map_shape("module.act"))
        found = session.read(probe, pack_injections(rows, activation), TARGETS)
        torch.testing.assert_close(found.scores, prediction.logits.gather(1, TARGETS), rtol=1e-5, atol=1e-6)
