"""The whole benchmark on a tiny model: what is in its record."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from fastxai.bench import SCHEMA, Options, as_text, bench, make_cases, runner
from fastxai.bench.peers import PEERS, captum
from fastxai.models import Model

METHODS = ["lime:samples=12,segments=grid(rows=4,columns=4)", "gradient-shap:samples=3", "gradcam"]
QUICK = Options(images=2, repeat=2, peer_seconds=0.0, limit_seconds=0.0, compared=2, batch=2, run_images=2)


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def found(convolutional, told):
    cases, left_out = make_cases(METHODS, ["top1", "all:3"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "import_seconds", lambda: 1.25)
        return bench(convolutional, cases, QUICK, left_out=left_out, say=told.append)


def test_the_record_is_json(found):
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_head_says_where_and_with_what(found):
    assert (found["schema"], found["program"]) == (SCHEMA, "fastxai bench")
    assert found["machine"]["device"] == "cpu" and found["machine"]["cpu"]
    assert {"fastxai", "torch", "lime", "shap", "captum", "grad-cam"} <= set(found["versions"])
    assert found["model"]["fingerprint"]
    assert found["options"]["repeat"] == 2
    assert found["absent"] == []
    assert [entry["what"] for entry in found["left_out"]] == ["lime for all classes", "gradcam for all classes"]


def test_every_case_states_its_work(found):
    keys = ("classes", "samples", "images", "distinct", "batch", "size")
    assert [(case["method"], case["targets"], *(case["work"][key] for key in keys)) for case in found["cases"]] == [
        ("lime", "top1", 1, 12, 2, 2, 2, [24, 24]),
        ("gradient-shap", "top1", 1, 3, 2, 2, 2, [24, 24]),
        ("gradient-shap", "all", 3, 3, 2, 2, 2, [24, 24]),
        ("gradcam", "top1", 1, None, 2, 2, 2, [24, 24]),
    ]
    limits = [(case["limit"]["kind"], case["limit"]["rows"]) for case in found["cases"]]
    assert limits == [("scores", 12), ("gradients", 3), ("gradients", 3), ("predict", 1)]


def test_every_figure_follows_from_the_turns(found):
    for case in found["cases"]:
        ours, limit = case["fastxai"], case["limit"]
        assert (len(ours["turns"]), len(limit["turns"])) == (2, 4)
        assert all(seconds > 0 for seconds in (*ours["turns"], *limit["turns"]))
        assert case["share"] == limit["seconds"] / ours["seconds"]
        assert ours["images_per_second"] == 1 / ours["seconds"]
        assert (case["memory"] is not None) == (case["method"] == "gradcam")
        for peer in case["peers"]:
            assert peer["status"] == "measured", peer
            assert peer["ratio"] == peer["speed"]["seconds"] / ours["seconds"]
            assert peer["pictures"] == 2  # one a turn
            won = peer["speed"]["seconds"] - ours["seconds"]
            paid = max(1, math.ceil(case["startup"]["total"] / won)) if won > 0 else None
            assert peer["pays_after"] == paid
        assert case["startup"]["imports"] == 1.25
        parts = [value for name, value in case["startup"].items() if name != "total"]
        assert case["startup"]["total"] == pytest.approx(sum(parts))


@pytest.mark.usefixtures("found")
def test_peers_and_fastxai_take_turns(told):
    lines = [line for line in told if line.startswith("gradient-shap, top1: round")]
    order = [line.split(", ")[2].split(":")[0] for line in lines]
    assert order == ["limit", "fastxai", "limit", "arithmetic", "captum", "shap"] * 2


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_a_model_whose_operations_cannot_be_counted_says_so(convolutional, monkeypatch):
    import torch
    from torch import nn

    class Flexible(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = convolutional.module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = self.inner(x)[:, None, None]
            return flex_attention(tokens, tokens, tokens)[:, 0, 0]

    flex_attention = pytest.importorskip("torch.nn.attention.flex_attention").flex_attention
    monkeypatch.setattr(runner, "import_seconds", lambda: 0.0)
    model = Model(Flexible(), convolutional.preprocess, precision="fp32", compile=False, device="cpu")
    told = []
    cases, _ = make_cases("lime:samples=4,segments=grid(rows=2,columns=2)")
    found = bench(model, cases, dataclasses.replace(QUICK, peers=()), say=told.append)
    assert found["cases"][0]["arithmetic"] is None
    assert any("operations cannot be counted" in line for line in told)


def test_operations_are_those_of_the_rows(found):
    forward = 2 * (8 * 27 + 12 * 72) * 12 * 12 + 2 * 12 * 6  # two convolutions and the head
    assert [case["arithmetic"]["flop"] for case in found["cases"]] == [
        12 * forward,
        3 * (1 + 1) * forward,  # the way back to the input costs as much, for every class
        3 * (1 + 3) * forward,
        forward + 2 * 12 * 6,  # back to the last layer
    ]
    for case in found["cases"]:
        done = case["arithmetic"]
        assert done["seconds"] == pytest.approx(done["flop"] / done["flop_per_second"])
        assert case["limit"]["seconds"] == pytest.approx(done["flop"] / done["limit_flop_per_second"])


def test_a_model_without_products_has_no_arithmetic(linear, monkeypatch):
    monkeypatch.setattr(runner, "import_seconds", lambda: 0.0)
    cases, _ = make_cases("gradient-shap:samples=2")
    found = bench(linear, cases, dataclasses.replace(QUICK, peers=()))
    assert found["cases"][0]["arithmetic"] is None
    assert "arithmetic" not in as_text(found)


def test_results_are_compared(found):
    lime, _, _, cam = found["cases"]
    assert lime["peers"][0]["agreement"]["pairs"] == 2
    assert lime["agreement"]["seed"]["rank_correlation"] < 1
    # the same float32 model folded and not: coefficients differ by rounding, which cannot turn ranks around
    assert lime["agreement"]["fp32"]["rank_correlation"] > 0.9
    assert cam["agreement"]["seed"] is None
    # the same map, up to rounding at pixels that are nearly alike
    assert cam["peers"][0]["agreement"]["rank_correlation"] > 0.999


def test_all_classes_are_told_from_a_stated_sample(found):
    case = found["cases"][2]
    scope = case["all_classes"]
    assert (scope["classes"], scope["sample"]) == (6, 3)
    assert scope["fastxai_seconds_at_most"] == 2 * case["fastxai"]["seconds"]
    assert scope["peer_seconds"] == {peer["name"]: 2 * peer["speed"]["seconds"] for peer in case["peers"]}
    assert found["cases"][0]["all_classes"] is None


def test_as_text(found):
    text = as_text(found)
    assert "lime: 1 class x 12 samples x 2 images of 24x24" in text
    assert "gradient-shap: 3 classes (a sample of 6) x 3 samples x 2 images of 24x24" in text
    assert "all 6 classes, from the sample of 3: fastxai at most" in text
    assert "3 rows of 0.00124 GFLOP an image: the limit does" in text and "arithmetic alone" in text
    assert "start-up" in text and "left out" in text
    for peer in PEERS:
        assert f"{peer} " in text


def test_absent_and_broken_peers_are_named(convolutional, monkeypatch):
    def broken(subject):
        raise OSError("no such thing")

    monkeypatch.setattr(runner, "import_seconds", lambda: 0.0)
    monkeypatch.setattr(captum, "prepare", broken)
    monkeypatch.setitem(PEERS, "shap", dataclasses.replace(PEERS["shap"], imports="no_such_package"))
    cases, _ = make_cases("gradient-shap:samples=2")
    found = bench(convolutional, cases, dataclasses.replace(QUICK, peers=("shap", "captum", "lime")))
    assert found["absent"] == [{"name": "shap", "install": "pip install 'fastxai[bench]'"}]
    peers = {peer["name"]: peer for peer in found["cases"][0]["peers"]}
    assert set(peers) == {"shap", "captum"}  # lime has nothing to say here
    assert peers["shap"]["status"] == "absent"
    assert (peers["captum"]["status"], peers["captum"]["why"]) == ("failed", "OSError: no such thing")
    text = as_text(found)
    assert "shap is not installed: pip install 'fastxai[bench]'" in text
    assert "captum failed: OSError: no such thing" in text


def test_the_users_model_and_switches_are_left_alone(convolutional, monkeypatch):
    import torch

    monkeypatch.setattr(runner, "import_seconds", lambda: 0.0)
    before = {name: value.clone() for name, value in convolutional.module.state_dict().items()}
    switches = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.get_num_threads()
    training = convolutional.module.training
    cases, _ = make_cases("gradcam")
    bench(convolutional, cases, dataclasses.replace(QUICK, repeat=1))
    assert all(torch.equal(before[name], value) for name, value in convolutional.module.state_dict().items())
    assert convolutional.module.training == training
    assert all(parameter.grad is None for parameter in convolutional.module.parameters())
    assert not any(part._forward_hooks for part in convolutional.module.modules())
    assert switches == (
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        torch.get_num_threads(),
    )
