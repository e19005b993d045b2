"""scripts/fewer_calls: parts of a long run are what the samplers draw, and its figures are those of known errors."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fastxai import ops, sampling

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
FACTORY = """
import fastxai as fx
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5))
    return fx.Model(module, fx.Preprocess((192, 192), 192), device="cpu", precision="fp32", compile=False)
"""


@pytest.fixture(autouse=True)
def script_modules(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # no cache folder in scripts/


@pytest.mark.parametrize("segments", [7, 24])
@pytest.mark.parametrize("samples", [20, 61])
def test_parts_for_shapley_values_are_of_the_sampler_s_sizes_and_weights(segments, samples):
    from _fewer_calls.draws import ShapDraw

    keys, counts = sampling.stream_keys(0, ["00" * 16], "kernel-shap"), torch.tensor([segments])
    long = sampling.shapley_coalitions(keys, counts, 600 if segments > 7 else 2**7)[0][0]
    words, weights = (of[0] for of in sampling.shapley_coalitions(keys, counts, samples))
    draw = ShapDraw(ops.unpack(long, segments).bool(), 3)
    rows = draw.rows(samples)
    assert len(rows.unique()) == len(rows) == samples
    kept, wanted = draw.kept[rows], ops.unpack(words, segments).bool()
    assert kept[:2].sum(1).tolist() == [segments, 0]
    assert sorted(kept.sum(1).tolist()) == sorted(wanted.sum(1).tolist())
    assert torch.equal(draw.weights(rows).sort().values, weights.sort().values)
    pairs = kept[2 : 2 + (samples - 2) // 2 * 2]
    assert torch.equal(pairs[0::2], ~pairs[1::2])
    assert not torch.equal(rows, ShapDraw(draw.kept, 4).rows(samples))


def test_parts_for_lime_are_one_of_a_pair_or_both_and_the_rest_has_none_of_them():
    from _fewer_calls.draws import LimeDraw

    draw = LimeDraw(401, 1)
    plain, paired, rest = draw.plain(50), draw.paired(51), draw.rest(50)
    assert plain[0] == paired[0] == rest[0] == 0
    assert len(((plain[1:] + 1) // 2).unique()) == 49
    assert set(plain[1:].tolist()) & set(rest[1:].tolist()) == set()
    assert len(((paired[1:] + 1) // 2).unique()) == 25
    assert len(rest) == 401 - 2 * 50
    both = (plain[1:] % 2).float().mean()
    assert 0.2 < both < 0.8


def test_calls_lie_between_the_numbers_that_were_measured():
    from _fewer_calls.compare import calls_for

    errors = {100: 0.2, 400: 0.1, 1600: 0.05}  # error * sqrt(rows) is 2
    assert calls_for(errors, 0.1) == pytest.approx(400)
    assert calls_for(errors, 2 / math.sqrt(900)) == pytest.approx(900)
    assert calls_for(errors, 0.5) == 100
    assert calls_for(errors, 0.01) == math.inf


def test_readings_are_kept_whole(tmp_path, monkeypatch):
    from _fewer_calls import readings
    from _fewer_calls.readings import PeerShap, Readings

    monkeypatch.setattr(readings, "LIME_ROWS", 31)
    monkeypatch.setattr(readings, "SHAP_ROWS", 22)
    (lime, shap), values = readings.coalitions(13), torch.rand(31).double()
    assert lime.shape == (31, 13) and shap.shape == (22, 13)
    peer, file = PeerShap(2074, np.arange(13.0), np.ones(13)), tmp_path / "one.npz"
    Readings("a.png", 13, (lime, values), (shap, values[:22]), (peer, peer)).save(file)
    found = Readings.load(file)
    assert (found.name, found.segments, len(found.peers), found.peers[1].calls) == ("a.png", 13, 2, 2074)
    assert torch.equal(found.lime[0], lime) and torch.equal(found.lime[1], values.float().double())
    assert torch.equal(found.shap[0], shap) and torch.equal(found.shap[1], values[:22].float().double())
    assert np.array_equal(found.peers[0].default, np.arange(13.0))
    monkeypatch.setattr(readings, "_SEED", 7)  # other coalitions than those that were read
    with pytest.raises(SystemExit, match="read with another sampler"):
        Readings.load(file)


@pytest.mark.filterwarnings("ignore")  # of the shap package, as it is imported
def test_the_whole_study_on_a_tiny_model(tmp_path, monkeypatch, capsys, photos):
    from _fewer_calls import compare, readings
    from PIL import Image

    (tmp_path / "tiny_study_model.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(readings, "LIME_ROWS", 1201)
    monkeypatch.setattr(readings, "SHAP_ROWS", 602)
    monkeypatch.setattr(readings, "_LONG", 10)
    monkeypatch.setattr(compare, "LIME_YARDSTICK", 300)
    monkeypatch.setattr(compare, "LIME_ROWS", (100, 200))
    monkeypatch.setattr(compare, "MORE_ROWS", (220, 240))
    monkeypatch.setattr(compare, "SHAP_ROWS", (100, 200))
    monkeypatch.setattr(compare.fits, "LIME", compare.fits.fx.Lime(tolerance=0.5, most=200))
    Image.fromarray(photos["chelsea"]).save(tmp_path / "cat.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    images = [str(tmp_path / "cat.png"), str(tmp_path / "bad.png")]
    (file,) = readings.read_all(images, "tiny_study_model:make", tmp_path / "kept", 1, 1)
    written = file.stat().st_mtime_ns
    assert readings.read_all(images, "tiny_study_model:make", tmp_path / "kept", 1, 1) == [file]
    assert file.stat().st_mtime_ns == written
    assert "bad.png" in capsys.readouterr().err
    found = compare.picture(file, seeds=2, auto_seeds=2)
    json.dumps(found)
    # Shapley values from the same long run are nearer than LIME's error at a part of it, and more rows are better.
    assert 0 < found["lime"]["smooth, paired"][200] < 1
    assert 0 < found["kernel-shap"]["linear"][200] < found["kernel-shap"]["linear"][100]
    assert 100 <= found["auto"]["rows"] <= 200
    met = min(error for rows, error in found["lime"]["smooth, paired"].items() if rows <= 200) <= 0.5
    assert (240 not in found["lime"]["smooth, paired"]) == met, "more rows only as long as the tolerance is not met"
    assert 0 <= found["auto"]["covered"] <= 1
    assert set(compare.summary([found])) == set(compare.summary([found, found]))
