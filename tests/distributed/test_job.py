"""A job is data, and does what the calls do."""

from __future__ import annotations

import pytest

import fastxai as fx
from fastxai.distributed import Job, Share
from fastxai.errors import ArgumentError


def test_a_job_travels_as_json() -> None:
    lime = fx.Lime(samples=30, segments=fx.Grid(rows=2, columns=2), name="quick")
    job = Job(("a\udcff.png", "b"), "run", (lime.to_dict(), "gradcam"), targets=3, compile=False, retry_failed=True)
    there = Job.from_json(job.to_json())
    assert there == job
    assert there.to_json().isascii()
    assert there.build_explainers() == (lime, fx.GradCam())


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": ["a"], "out": "b", "explainers": [], "colour": 1}'])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="job must be the JSON of a Job"):
        Job.from_json(text)


def test_a_job_begins_and_runs_in_shares(place, same, alone, lime) -> None:
    job = Job(("pictures",), "run", (lime, "gradcam"), model="tiny:make", batch=2, shard_images=4)
    manifest = job.begin(3, threads=1)
    assert manifest.settings.threads == 1
    assert len(fx.open_run("run")) == 0
    for index in (2, 0, 1):
        made = job.run(Share(index, 3))
    assert made.summary.settings == manifest.settings
    same(alone())
    with pytest.raises(ArgumentError, match="resume"):
        job.begin(3)
    with pytest.raises(ArgumentError, match="resume"):
        job.run()


def test_more_shares_than_images(place) -> None:
    job = Job(("pictures/00.png",), "run", ("gradcam",), model="tiny:make")
    lengths = [job.run(Share(index, 3)).summary.images for index in range(3)]
    assert sorted(lengths) == [0, 0, 1]
