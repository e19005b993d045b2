"""A folder with pictures and a tiny model that other processes can import, and the command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

import fastxai as fx

PROJECT = Path(__file__).resolve().parents[2]
COUNT = 14

# Misbehaves on request, once it has committed something: the request is a file, which the one who does it takes away.
TINY = """
import os, signal, time
from pathlib import Path
import torch
from torch import nn
from fastxai import Model, Preprocess


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.ReLU(), nn.Conv2d(8, 12, 3))
            self.head = nn.Linear(12, 6)

    def forward(self, x):
        misbehave()
        return self.head(self.features(x).relu().mean(dim=(2, 3)))


def misbehave():
    time.sleep(float(os.environ.get("TINY_SLEEP", "0")))
    if any(Path("run/shards").glob("*.h5")):
        if taken("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if taken("lose"):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")


def taken(name):
    try:
        os.rename(name, name + "-done")
    except FileNotFoundError:
        return False
    return True


def make():
    preprocess = Preprocess((24, 24), None, "bilinear", (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    return Model(Net(), preprocess, precision="fp32", compile=False, device="cpu")
"""
LIME = "lime:samples=20,segments=grid(rows=3,columns=3)"
# Grad-CAM alone starts soonest: only it, where the test is about processes
ARGUMENTS = ("pictures", "--model", "tiny:make", "-e", "gradcam", "--batch", "2", "--shard-images", "2")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of the test: `pictures` (one of them broken) and `tiny.py`."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    noise = torch.randint(0, 256, (COUNT - 1, 24, 24, 3), generator=torch.Generator().manual_seed(1))
    for index, picture in enumerate(noise.to(torch.uint8)):
        Image.fromarray(picture.numpy()).save(pictures / f"{index:02}.png")
    (pictures / "broken.png").write_bytes(b"no picture")
    (tmp_path / "tiny.py").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{PROJECT}{os.pathsep}{tmp_path}")
    return tmp_path


@pytest.fixture
def command(place: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `fastxai explain` on the pictures in a process; environment variables by name. None of them is left."""
    started: list[subprocess.Popen[str]] = []

    def start(*flags: str, out: str = "run", **environment: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "fastxai", "explain", *ARGUMENTS, "--out", out, *flags]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(argv, text=True, env={**os.environ, **environment}, **pipes)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def alone(place: Path) -> Callable[[], fx.Found]:
    """What one process explains with the settings and methods of the run in `run`."""

    def explain() -> fx.Found:
        import importlib.util

        spec = importlib.util.spec_from_file_location("tiny_here", place / "tiny.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with fx.open_run("run") as there:
            methods, settings = there.explainers, there.manifest.settings
        run = fx.run(module.make(), "pictures", methods, out="alone", settings=settings)
        return run.read(0, len(run))

    return explain


@pytest.fixture
def lime() -> str:
    return LIME


@pytest.fixture
def same() -> Callable[[fx.Found], None]:
    """Whether the run in `run` holds the same rows, bit for bit."""

    def compare(found: fx.Found) -> None:
        run = fx.open_run("run")
        assert sorted(run.ids) == sorted(found.ids)
        there = run.found(found.ids)
        assert torch.equal(there.status, found.status)
        for name in found:
            for field, value in found[name].data.items():
                assert torch.equal(there[name].data[field].nan_to_num(-7), value.nan_to_num(-7)), (name, field)

    return compare
