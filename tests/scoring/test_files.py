import json

import numpy as np
import pytest

import fastxai as fx
from fastxai.errors import ArgumentError, CannotRun, SchemaError
from fastxai.scoring import read_scores, scores_path, write_scores
from tests.scoring.conftest import METHODS, QUICK, SETTINGS


@pytest.fixture
def kept(convolutional, run):
    path = scores_path(run.path)
    yield write_scores(run, fx.score(run, convolutional, QUICK))
    path.unlink()


def test_scores_are_kept_beside_the_run(convolutional, run, kept):
    assert kept == run.path / "scores.json"
    assert not list(run.path.glob("*.part"))
    found, there = fx.score(run, convolutional, QUICK), read_scores(run)
    for name, values in found.values.items():
        np.testing.assert_array_equal(values, there.values[name])
    assert str(there) == str(found)
    assert there.about["program"] == "fastxai"
    assert fx.verify(run.path) == []  # a file that is not the run's own is no problem


def test_the_file_has_the_documented_schema(run, kept):
    data = json.loads(kept.read_text())
    wanted = "schema program version created run model seed reference confidence methods measures rows values"
    assert list(data) == [*wanted.split(), "curves", "images", "left_out"]
    assert (data["schema"], data["run"], data["reference"]) == (1, run.config.digest, "random")
    value = data["values"]["deletion"]
    assert list(value) == ["better", "about", "images"]
    assert len(value["images"]["lime"]) == len(data["images"]) == 5
    keys = "measure method better count mean median interval difference verdict"
    assert " ".join(data["rows"][0]) == keys
    assert set(data["rows"][0]["difference"]) == {"count", "mean", "median", "interval"}
    assert len(data["curves"]["deletion"]["mean"]["lime"]) == len(data["curves"]["deletion"]["at"]) == 5


def test_later_scores_take_their_place(convolutional, run, kept):
    write_scores(run, fx.score(run, convolutional, fx.Aopc(steps=2)))
    assert "aopc" in read_scores(run).columns and "deletion" not in read_scores(run).columns


def test_no_scores_are_no_error(run):
    assert read_scores(run) is None
    with pytest.raises(CannotRun, match="cannot be read"):
        read_scores(run, run.path / "elsewhere.json")


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda text: text[:100], SchemaError, "does not hold scores"),
        (lambda text: "[]", SchemaError, "does not hold scores"),
        (lambda text: text.replace('"schema": 1', '"schema": 2'), SchemaError, "has schema 2"),
        (lambda text: text.replace('"reference": "random"', '"reference": "x"'), SchemaError, "is damaged"),
        (lambda text: text.replace('"run": "', '"run": "0'), ArgumentError, "scores of another one"),
    ],
)
def test_what_is_not_about_the_run_is_refused(run, kept, damage, error, message):
    text = damage(kept.read_text())
    assert text != kept.read_text()
    kept.write_text(text)
    with pytest.raises(error, match=message):
        read_scores(run)


def test_a_run_of_one_file_has_them_beside_it(convolutional, run, tmp_path):
    one = fx.export_run(run.path, tmp_path / "birds.h5")
    with fx.open_run(one) as opened:
        found = fx.score(opened, convolutional, QUICK)
        assert write_scores(opened, found) == tmp_path / "birds.scores.json"
        assert read_scores(opened).ids == found.ids


def test_an_existing_run_can_be_resumed_beside_its_scores(convolutional, run, kept, folder):
    fx.run(convolutional, folder, METHODS, targets="top2", out=run.path, resume=True, settings=SETTINGS).close()
    assert kept.exists()
