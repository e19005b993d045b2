from __future__ import annotations

import json
from typing import Any

import pytest

from fastxai.errors import ArgumentError, RunMismatch, SchemaError
from fastxai.explainers import GradCam, Lime
from fastxai.store import RunConfig, check_same, describe, difference
from fastxai.store.schema import settings_from_dict, settings_to_dict
from fastxai.types import Preprocess, Settings


def test_json_round_trip(make: Any) -> None:
    config = make.config(targets=[[1, 2], [3, 4]], pixels=False, store="compact")
    again = RunConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert difference(config, again) is None
    assert again.digest == config.digest
    assert again.preprocess == config.preprocess
    assert again.build_explainers() == make.explainers


def test_digest_is_of_the_contents(make: Any) -> None:
    a = make.config(model={"name": "toy", "fingerprint": "1"})
    b = make.config(model={"fingerprint": "1", "name": "toy"})
    assert a.digest == b.digest
    assert a.digest != make.config(model={"name": "toy", "fingerprint": "2"}).digest


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 1}, "seed is 0 there, 1 here"),
        ({"pixels": False}, "pixels is true there, false here"),
        ({"store": "compact"}, "store is full there, compact here"),
        ({"targets": "top1"}, "targets is top2 there, top1 here"),
        ({"model": {"name": "toy", "fingerprint": "cd"}}, "model.fingerprint is abab"),
        ({"model": {"name": "toy", "fingerprint": "ab" * 16, "output": "softmax"}}, "model.output is null there"),
        ({"class_names": ("cat", "fox")}, "class_names[1] is dog there, fox here"),
        ({"class_names": None}, "class_names is"),
        ({"preprocess": Preprocess(size=(20, 24), resize=None)}, "preprocess.resize is [20, 24] there, null here"),
    ],
)
def test_the_difference_is_named(make: Any, changes: dict[str, Any], words: str) -> None:
    found = difference(make.config(), make.config(**changes))
    assert found is not None
    assert words in found
    with pytest.raises(RunMismatch, match="use another folder"):
        check_same("runs/x", make.config(), make.config(**changes))


def test_the_difference_of_explainers_is_named(make: Any) -> None:
    rest = {"targets": "top1", "targets_per_image": 1, "seed": 0, "model": {"fingerprint": "1"}}
    rest["preprocess"] = Preprocess(size=(8, 8), resize=None)
    lime = describe([Lime(samples=10), GradCam()], **rest)
    assert difference(lime, describe([Lime(samples=20), GradCam()], **rest)) == "lime.samples is 10 there, 20 here"
    other = describe([Lime(samples=10, segments="quickshift(ratio=0.5)"), GradCam()], **rest)
    assert difference(lime, other) == "lime.segments.ratio is 0.2 there, 0.5 here"
    assert difference(lime, describe([GradCam()], **rest)) == "methods are lime, gradcam there, gradcam here"


def test_names_that_a_run_uses_itself_are_refused(make: Any) -> None:
    for name in ("image", "segments", "segments-0123abcd", "process"):
        make.explainers = (GradCam(name=name),)
        with pytest.raises(ArgumentError, match="name must not be one that a run uses itself"):
            make.config()
    make.explainers = (GradCam(), GradCam())
    with pytest.raises(ArgumentError, match="different names"):
        make.config()


def test_an_unknown_method_is_refused_when_it_is_needed(make: Any) -> None:
    config = make.config()
    foreign = RunConfig.from_dict(config.to_dict() | {"explainers": [{"method": "oracle", "name": "oracle"}]})
    with pytest.raises(SchemaError, match="'oracle'"):
        foreign.build_explainers()
    for damaged in (
        {"lethod": "lime", "name": "lime"},
        {"method": "lime", "name": "lime", "segments": 3},
        {"method": ["lime"], "name": "lime"},
    ):
        with pytest.raises(SchemaError):
            RunConfig.from_dict(config.to_dict() | {"explainers": [damaged]}).build_explainers()


def test_settings_of_an_older_version_are_filled_up() -> None:
    old = settings_to_dict(Settings(threads=3))
    del old["rows"]["directions"], old["fold"]
    assert settings_from_dict(old) == Settings(threads=3)
    with pytest.raises(ArgumentError, match="settings must be one of .*, got 'later'"):
        settings_from_dict(old | {"later": 1})
    with pytest.raises(ArgumentError, match="rows of predict must be"):
        settings_from_dict({"rows": {"predict": "many"}})
