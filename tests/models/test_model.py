"""Models: what they accept and how they describe themselves."""

from __future__ import annotations

import json
from collections import namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastxai.errors import ArgumentError, ArgumentTypeError, CannotRun
from fastxai.models import Model
from fastxai.types import Preprocess, Settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "relu"}, "output must be one of softmax, sigmoid, logits, got 'relu'"),
        ({"precision": "int8"}, "precision must be one of auto, fp32, bf16, fp16, got 'int8'"),
        ({"device": "tpu"}, "device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
        ({"device": 3}, "device must be a text"),
        ({"compile": "yes"}, "compile must be True, False or 'auto', got 'yes'"),
        ({"classes": "cat"}, "classes must be a list of texts"),
        ({"classes": []}, "classes must be None or a list that is not empty"),
        ({"classes": ["a"], "class_keys": ["n1", "n2"]}, "class_keys must be as many as classes, got 2 for 1"),
        ({"name": ""}, "name must be a text"),
    ],
)
def test_wrong_arguments_are_named(small: Preprocess, options: dict[str, Any], message: str):
    with pytest.raises(ArgumentError) as caught:
        Model(nn.Linear(2, 2), small, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_types_are_named(small: Preprocess):
    with pytest.raises(ArgumentTypeError, match="module must be a torch.nn.Module, got str"):
        Model("resnet50", small)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="preprocess must be a fastxai.Preprocess, got int"):
        Model(nn.Linear(2, 2), 224)  # type: ignore[arg-type]


def test_a_device_that_is_not_there_cannot_run(small: Preprocess):
    with pytest.raises(CannotRun, match=r"cuda.*(finds no CUDA device|does not exist)"):
        Model(nn.Linear(2, 2), small, device="cuda:99")


def test_probabilities(wrap: Any, net: Any):
    logits = torch.tensor([[0.0, 1.0, -2.0]])
    assert torch.equal(wrap(net()).probabilities(logits), logits.softmax(1))
    assert torch.equal(wrap(net(), None, "sigmoid").probabilities(logits), logits.sigmoid())
    assert torch.equal(wrap(net(), None, "logits").probabilities(logits), logits)
    assert wrap(net()).probabilities(logits.bfloat16()).dtype == torch.float32


def test_names_and_description(wrap: Any, net: Any):
    model = wrap(net(), list("abcde"), class_keys=["n1", "n2", "n3", "n4", "n5"], name="mine")
    assert model.classes == ("a", "b", "c", "d", "e")
    assert model.class_name(2) == "c"
    assert wrap(net()).class_name(2) == "class 2"
    assert json.loads(json.dumps(model.describe()))["preprocess"]["size"] == [20, 20]
    assert repr(model) == "<Model mine: Net, 20x20, 5 classes, softmax>"


def test_the_fingerprint_tells_models_apart(wrap: Any, net: Any, small: Preprocess):
    class Other(net):
        pass

    module = net()
    first = wrap(module).fingerprint
    assert len(first) == 32
    assert wrap(net()).fingerprint == first
    others = [wrap(net(), None, "sigmoid"), wrap(Other()), wrap(net(classes=4)), wrap(net().double())]
    others.append(wrap(net(), preprocess=Preprocess((20, 20), 21)))
    with torch.no_grad():
        module.norm.running_var[3] += 1e-3
    others.append(wrap(module))
    assert len({first, *(model.fingerprint for model in others)}) == len(others) + 1


def test_wrappers_around_a_module_are_taken_off(wrap: Any, net: Any):
    module = net()
    assert wrap(nn.DataParallel(module)).module is module
    assert wrap(torch.compile(module)).module is module


Output = namedtuple("Output", ["aux", "logits"])  # as torchvision returns them


@pytest.mark.parametrize(
    "form",
    [
        lambda scores: scores,
        lambda scores: (scores, "aux"),
        lambda scores: [scores, scores + 1],
        lambda scores: {"logits": scores, "a": scores + 1},
        lambda scores: {"out": scores},
        lambda scores: Output(scores + 1, scores),
    ],
)
def test_forms_of_output(wrap: Any, net: Any, form: Any):
    class Formed(net):
        def forward(self, x: Tensor) -> Any:
            return form(super().forward(x))

    rows = torch.ones(2, 3, 20, 20)
    with wrap(net()).open(Settings()) as plain, wrap(Formed()).open(Settings()) as formed:
        assert torch.equal(formed.predict(rows).logits, plain.predict(rows).logits)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda scores: "text", "module must return a tensor.* got str"),
        (lambda scores: {}, "module must return a tensor.* got dict"),
        (lambda scores: scores[None], r"scores \[batch, classes\], got float32 \[1, 2, 5\] for a batch of 2"),
        (lambda scores: scores.argmax(1), r"scores \[batch, classes\], got int64 \[2, 1\]"),
        (lambda scores: scores.sum(), r"scores \[batch, classes\], got float32 \[\]"),
    ],
)
def test_outputs_that_are_no_scores_are_refused(wrap: Any, net: Any, form: Any, message: str):
    class Formed(net):
        def forward(self, x: Tensor) -> Any:
            return form(super().forward(x))

    with pytest.raises(ArgumentError, match=message), wrap(Formed()).open(Settings()):
        pass
