"""Options and fixtures that every test folder shares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fastxai.models import Model
from fastxai.types import Preprocess

PROJECT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shared-data",
        type=Path,
        default=None,
        help="folder with seed_images and bad_images (default: ../shared/data beside the project)",
    )
    parser.addoption(
        "--lime-samples",
        type=int,
        default=50,
        help="samples of the comparison with the lime package (published: 1000)",
    )


@pytest.fixture(scope="session")
def shared_data(request: pytest.FixtureRequest) -> Path:
    """The folder of real pictures that is not part of the project; skips where there is none.

    A folder that was asked for by name must exist.
    """
    given: Path | None = request.config.getoption("--shared-data")
    if given is not None:
        if not given.is_dir():
            raise pytest.UsageError(f"--shared-data must be a folder, got {str(given)!r}")
        return given.resolve()
    default = PROJECT.parent / "shared" / "data"
    if not default.is_dir():
        pytest.skip("no ../shared/data beside the project: name it with --shared-data")
    return default


@pytest.fixture(scope="session")
def photos() -> dict[str, np.ndarray]:
    """Pictures that scikit-image ships inside its wheel, uint8 [H, W, 3]: a cat, coffee, rocket and astronaut."""
    from skimage import data

    return {"chelsea": data.cat(), "coffee": data.coffee(), "rocket": data.rocket(), "astronaut": data.astronaut()}


@pytest.fixture(scope="session")
def embedded() -> Model:
    """The pretrained classifier that needs no download, on the CPU. Tests never run without it, so nothing skips."""
    from fastxai.models import load_model

    return load_model("embedded", device="cpu")


# -- small models whose explanations are known

SIZE = 24


class Linear(nn.Module):
    """scores = pixels . weights, two classes: every explanation of it has a closed form."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(2, channels, SIZE, SIZE, generator=generator) / SIZE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.unsqueeze(1) * self.weight).sum(dim=(2, 3, 4))


class Convolutional(nn.Module):
    """A small network with two feature layers, an in-place ReLU after each, and `classes` scores."""

    def __init__(self, classes: int = 6, channels: int = 3) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.features = nn.Sequential(
                nn.Conv2d(channels, 8, 3, padding=1, stride=2), nn.ReLU(inplace=True), nn.Conv2d(8, 12, 3, padding=1)
            )
            self.act = nn.ReLU(inplace=True)
            self.head = nn.Linear(12, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.features(x)).mean(dim=(2, 3)))


@pytest.fixture(scope="session")
def preprocess() -> Preprocess:
    return Preprocess((SIZE, SIZE), None, "bilinear", (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


@pytest.fixture(scope="session")
def linear(preprocess: Preprocess) -> Model:
    return Model(Linear(), preprocess, ["dark", "bright"], precision="fp32", compile=False, device="cpu")


@pytest.fixture(scope="session")
def convolutional(preprocess: Preprocess) -> Model:
    return Model(Convolutional(), preprocess, precision="fp32", compile=False, device="cpu")


@pytest.fixture(scope="session")
def noise_pictures() -> Callable[[int], torch.Tensor]:
    def make(count: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        return torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)

    return make
