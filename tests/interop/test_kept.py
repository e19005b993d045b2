"""A model kept ready between calls: opened once, opened again where it changed, and nothing of it outside of work."""

import pytest
import torch
from torch import nn

from fastxai.interop import _kept
from fastxai.interop._kept import KeptModel, _even
from fastxai.models import InputGradients, Scores


@pytest.fixture
def opened(monkeypatch):
    """How many private copies were made."""
    made = []
    settings = KeptModel._settings

    def count(model, rows):
        made.append(model)
        return settings(model, rows)

    monkeypatch.setattr(KeptModel, "_settings", staticmethod(count))
    return made


def scores(kept, inputs):
    def all_of(classes):
        return torch.arange(classes).expand(len(inputs), classes)

    return kept.read(Scores("logit"), inputs, lambda session, a, b: inputs[a:b], all_of, len(inputs)).scores


def change_data(net):
    net.conv.weight.data.mul_(1.5)


def change_buffer(net):
    net.norm.running_mean.add_(1)


def replace_part(net):
    net.act = nn.Tanh()


def add_hook(net):
    net.act2.register_forward_hook(lambda part, arguments, output: output * 2)


@pytest.mark.parametrize("change", [change_data, change_buffer, replace_part, add_hook])
def test_changes_are_seen_and_nothing_else_opens_it_again(change, net, inputs, opened):
    kept = KeptModel(net)
    first = scores(kept, inputs)
    assert torch.equal(scores(kept, inputs), first) and len(opened) == 1
    change(net)
    with torch.no_grad():
        wanted = net(inputs)
    # float32 of a folded copy
    assert torch.allclose(scores(kept, inputs), wanted, atol=1e-4)
    assert not torch.allclose(wanted, first, atol=1e-2)
    assert len(opened) == 2


def test_another_size_opens_it_again(net, inputs, opened):
    kept = KeptModel(net)
    scores(kept, inputs)
    small = inputs[..., :16, :16]
    with torch.no_grad():
        assert torch.allclose(scores(kept, small), net(small), atol=1e-4)
    assert len(opened) == 2


def test_switches_of_the_process_are_put_back_between_calls(net, inputs):
    before = torch.get_float32_matmul_precision()
    kept = KeptModel(net)
    try:
        torch.set_float32_matmul_precision("medium")
        scores(kept, inputs)
        assert torch.get_float32_matmul_precision() == "medium"
        torch.set_float32_matmul_precision("high")
        seen = []
        net.act.register_forward_hook(lambda *_: seen.append(torch.get_float32_matmul_precision()))
        scores(kept, inputs)
        assert torch.get_float32_matmul_precision() == "high"
        assert set(seen) == {"highest"}
        with pytest.raises(ZeroDivisionError):
            kept.read(Scores("logit"), inputs, lambda session, a, b: 1 / 0, lambda c: torch.zeros(3, 1).long(), 3)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_chunks_are_even(net, inputs):
    """25 rows are 4 chunks of 7, not 3 of 8 and one that is padding for the most part."""
    seen = []
    kept = KeptModel(lambda x: (seen.append(len(x)), net(x))[1])
    rows = inputs[:1].expand(25, -1, -1, -1)
    found = kept.read(Scores("logit"), rows, lambda session, a, b: rows[a:b], lambda c: torch.zeros(25, 1).long(), 25)
    assert seen[-4:] == [7, 7, 7, 7]
    with torch.no_grad():
        assert torch.allclose(found.scores, net(rows)[:, :1], atol=1e-4)


@pytest.mark.parametrize(
    ("count", "most", "lanes", "rows"), [(5, 8, 1, 5), (5, 8, 2, 3), (25, 8, 2, 7), (33, 8, 2, 6), (1, 8, 4, 1)]
)
def test_every_lane_has_a_chunk(count, most, lanes, rows):
    """5 rows are one chunk for one lane, two of 3 for two."""
    assert _even(count, most, lanes) == rows


def test_memory_that_ends_makes_chunks_smaller(net, inputs):
    seen = []

    def small(x):
        seen.append(len(x))
        if len(x) > 2:
            raise MemoryError("no room")
        return net(x)

    rows = inputs[:1].expand(8, -1, -1, -1)
    kept = KeptModel(small)
    targets = torch.arange(8)[:, None] % 6
    reading = kept.read(InputGradients(), rows, lambda session, a, b: rows[a:b], lambda c: targets, 8)
    assert seen[-6:] == [8, 4, 2, 2, 2, 2]
    leaf = rows.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(net(leaf).gather(1, targets).sum(), leaf)
    assert torch.allclose(reading.gradients[:, 0], wanted, atol=1e-5)


def test_a_copy_is_not_made_of_what_a_function_holds(net, inputs):
    class Held:
        def __deepcopy__(self, memo):
            raise AssertionError("copied")

        def __call__(self, x):
            return net(x)

    with torch.no_grad():
        assert torch.equal(scores(KeptModel(Held()), inputs), net(inputs.contiguous(memory_format=torch.channels_last)))
    assert not list(_kept.Function(net).parameters())
