"""Explainers x numbers of classes, and what they need of the model."""

from __future__ import annotations

import pytest

import fastxai as fx
from fastxai.bench import Options, make_cases
from fastxai.bench.cases import Need
from fastxai.errors import ArgumentError


def test_every_explainer_at_every_number_of_classes():
    cases, left_out = make_cases(["lime", "gradient-shap", "gradcam"], ["top1", "top5", "all:7"], samples=12)
    found = [(c.explainer.name, c.classes, c.sampled, c.samples) for c in cases]
    assert found == [
        ("lime", 1, False, 12),
        ("lime", 5, False, 12),
        ("gradient-shap", 1, False, 12),
        ("gradient-shap", 5, False, 12),
        ("gradient-shap", 7, True, 12),
        ("gradcam", 1, False, None),
        ("gradcam", 5, False, None),
    ]
    assert [entry["what"] for entry in left_out] == ["lime for all classes", "gradcam for all classes"]
    assert [c.need for c in cases] == [Need("scores", 12)] * 2 + [Need("gradients", 12)] * 3 + [Need("predict", 1)] * 2
    assert [c.images(None) for c in cases] == [16] * 5 + [64] * 2
    assert cases[0].images(3) == 3


def test_a_sample_of_all_classes_is_at_most_all():
    (case,), _ = make_cases(fx.GradientShap(), ["all"])
    assert (case.classes, case.targets) == (10, "top10")
    assert case.within(6).classes == 6
    with pytest.raises(ArgumentError, match="between top1 and top6"):
        make_cases("gradcam", ["top7"])[0][0].within(6)


@pytest.mark.parametrize("targets", [["top0"], ["7"], ["label"], ["all:0"], ["all:"], []])
def test_targets_that_cannot_be(targets):
    with pytest.raises(ArgumentError, match="targets must"):
        make_cases("gradient-shap", targets)


def test_nothing_left_to_measure():
    with pytest.raises(ArgumentError, match="must leave something"):
        make_cases("lime", ["all"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": 0},
        {"repeat": 0},
        {"peers": ("lime", "eli5")},
        {"peers": ("lime", "lime")},
        {"peer_seconds": -1},
        {"compared": 0},
        {"batch": 0},
        {"seed": -1},
    ],
)
def test_options_are_checked(wrong):
    with pytest.raises(ArgumentError, match="must be"):
        Options(**wrong)
