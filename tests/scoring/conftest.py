"""A small run, and the results that it holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import fastxai as fx
from fastxai.models import Model
from fastxai.results import Found

SETTINGS = fx.Settings(precision="fp32", rows={"predict": 4, "scores": 8, "gradients": 4})
METHODS = (fx.Lime(samples=20, segments=fx.Grid(4, 4)), fx.GradientShap(samples=3), fx.GradCam())
QUICK = (fx.Deletion(steps=4), fx.MuFidelity(samples=5))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, noise_pictures) -> Path:
    place = tmp_path_factory.mktemp("pictures")
    for index, picture in enumerate(noise_pictures(5)):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(place / f"{index}.png")
    (place / "1b.png").write_bytes(b"broken")
    return place


@pytest.fixture(scope="session")
def found(convolutional: Model, folder: Path) -> Found:
    return fx.explain(convolutional, folder, METHODS, targets="top2", settings=SETTINGS)


@pytest.fixture(scope="session")
def run_folder(convolutional: Model, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    fx.run(convolutional, folder, METHODS, targets="top2", out=out, settings=SETTINGS, shard_images=2).close()
    return out


@pytest.fixture
def run(run_folder: Path):
    with fx.open_run(run_folder) as opened:
        yield opened


@pytest.fixture(scope="session")
def another(convolutional: Model) -> Model:
    """A model of the same kind with other weights."""
    from fastxai.models import randomised

    other = randomised(convolutional, 1.0, 5)
    with torch.no_grad():
        other.module.head.weight.mul_(30)  # surer of itself than the first one
    return other


def with_field(found: Found, name: str, field: str, values: torch.Tensor) -> Found:
    result = replace(found[name], data={**found[name].data, field: values})
    return replace(found, methods={**found.methods, name: result})
