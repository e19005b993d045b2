"""The arithmetic between figures, on times that are made up."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from fastxai.bench import record
from fastxai.bench.memory import Peak, watched
from fastxai.bench.ours import Stream
from fastxai.bench.startup import Startup
from fastxai.bench.turns import Times
from fastxai.errors import CannotRun
from fastxai.types import Progress

GROWS = """
import torch
from fastxai.bench.memory import peak_memory

with peak_memory(torch.device("cpu")) as peak:
    block = bytearray(64 << 20)
    block[:: 1 << 12] = b"x" * (len(block) >> 12)
    del block
print(peak.bytes, peak.growth)
"""


def test_ratio_and_share_are_of_medians():
    ours, peer, limit = Times((4.0, 2.0, 3.0)), Times((90.0, 30.0)), Times((2.4,))
    assert record.ratio(peer, ours) == 20.0
    assert record.share(limit, ours) == pytest.approx(0.8)
    assert record.speed(ours, Peak(10, 3)) == {
        "seconds": 3.0,
        "images_per_second": 1 / 3,
        "turns": [4.0, 2.0, 3.0],
        "peak_bytes": 10,
        "growth_bytes": 3,
    }


@pytest.mark.parametrize(("startup", "pictures"), [(27.0, 1), (27.1, 2), (0.0, 1), (270.0, 10)])
def test_when_the_start_up_has_paid(startup, pictures):
    assert record.pays_after(startup, Times((30.0,)), Times((3.0,))) == pictures


def test_a_start_up_that_never_pays():
    assert record.pays_after(1.0, Times((3.0,)), Times((3.0,))) is None


def test_start_up_is_the_sum_of_its_parts():
    found = Startup(1.0, 2.0, 3.0, 4.0, 5.0).to_dict()
    assert found == {"imports": 1, "load": 2, "calibration": 3, "opening": 4, "compilation": 5, "total": 15}


def progress(images):
    return Progress(images, 24, 0, "", 0, 1, 0.0)


def test_the_steady_state_begins_when_the_first_pictures_are_done():
    times = iter([100.0, 110.0])
    stream = Stream(lambda: next(times))
    for images in (0, 0, 8, 8, 16, 24):
        stream(progress(images))
    # the first eight took until 100, which is filling and start-up; the other sixteen took 32 seconds
    assert stream.seconds_an_image(24, 132.0) == 2.0


def test_a_stream_that_is_only_its_first_pictures_has_no_steady_state():
    stream = Stream(lambda: 0.0)
    stream(progress(24))
    with pytest.raises(CannotRun, match="longer stream"):
        stream.seconds_an_image(24, 1.0)


def test_peak_memory_is_seen_after_it_is_gone():  # in a process where nothing else gives memory back
    done = subprocess.run(
        [sys.executable, "-c", GROWS], capture_output=True, text=True
    )  # where nothing else gives back
    assert done.returncode == 0, done.stderr
    size, growth = map(int, done.stdout.split())
    assert size == 0 or growth > 60 << 20


def test_the_highest_of_all_turns_is_kept():
    peak = Peak(bytes=1 << 50, growth=0)
    assert watched(lambda: 1.5, peak, torch.device("cpu"))() == 1.5
    assert peak.bytes == 1 << 50
