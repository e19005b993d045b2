"""SIGINT and SIGTERM to `fastxai explain`: an orderly end, or one at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

import fastxai as fx
from fastxai.cli.signals import Interrupted, stoppable

PROJECT = Path(__file__).resolve().parents[2]
SLOW = """
import os, time
from torch import nn
from fastxai import Model, Preprocess


class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        time.sleep(0.5)
        if os.path.exists("hang"):
            os.rename("hang", "hanging")
            time.sleep(60)
        return self.layer(x).mean(dim=(2, 3))


def make():
    return Model(Slow(), Preprocess((24, 24), None), precision="fp32", compile=False, device="cpu")
"""

Start = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a run of 40 pictures in `tmp_path`, with a model that takes half a second for two."""
    (tmp_path / "pictures").mkdir()
    noise = torch.randint(0, 256, (40, 24, 24, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    for index, picture in enumerate(noise):
        Image.fromarray(picture.numpy()).save(tmp_path / "pictures" / f"{index:02}.png")
    (tmp_path / "slow.py").write_text(SLOW)
    started = []

    def begin() -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "fastxai", "explain", "pictures", "--out", "run", "--model", "slow:make"]
        argv += ["-e", "gradcam", "--batch", "2", "--shard-images", "4"]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        process = subprocess.Popen(argv, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def wait_for(what: Callable[[], object]) -> None:
    late = time.monotonic() + 60
    while not what():
        assert time.monotonic() < late
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_in_order(start: Start, tmp_path: Path, number: int) -> None:
    process = start()
    wait_for(lambda: any((tmp_path / "run" / "shards").glob("*.h5")))
    asked = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - asked < 10  # what is promised
    assert err.splitlines()[-1] == "fastxai: interrupted: what is finished is in run, --resume goes on"
    assert "Traceback" not in err
    run = fx.open_run(tmp_path / "run")
    assert 4 <= len(run) < 40
    assert len(run) % 2 == 0  # whole batches
    assert fx.open_run(tmp_path / "run").failures == {}


def test_a_second_signal_ends_at_once(start: Start, tmp_path: Path) -> None:
    process = start()
    wait_for(lambda: any((tmp_path / "run" / "shards").glob("*.h5")))
    (tmp_path / "hang").touch()  # the main thread does not come back from the model
    wait_for((tmp_path / "hanging").exists)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.6)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 130


def test_before_there_is_anything_to_finish_one_signal_is_enough() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted), stoppable():
        signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_from_the_first_look_on_a_signal_only_asks() -> None:
    with stoppable() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # the same key pressed, twice delivered
        time.sleep(0.1)
        assert stop()


def test_other_threads_have_no_signals() -> None:
    seen = []

    def work() -> None:
        with stoppable() as stop:
            seen.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
