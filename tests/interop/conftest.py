"""A small network that other tools can look into, and inputs for it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fastxai.models import Model
from fastxai.types import Preprocess

SIZE = 24


class Net(nn.Module):
    """Two convolutions with batch norms and ReLUs that write nowhere else, and six scores."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 8, 3, padding=1, stride=2)
            self.norm = nn.BatchNorm2d(8)
            self.act = nn.ReLU()
            self.conv2 = nn.Conv2d(8, 12, 3, padding=1)
            self.norm2 = nn.BatchNorm2d(12)
            self.act2 = nn.ReLU()
            self.head = nn.Linear(12, 6)
            with torch.no_grad():
                for norm in (self.norm, self.norm2):
                    norm.running_mean.normal_()
                    norm.running_var.uniform_(0.5, 2)
                self.head.weight.mul_(100)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(x)))
        return self.head(self.act2(self.norm2(self.conv2(x))).mean(dim=(2, 3)))


@pytest.fixture
def net() -> Net:
    """Fresh, so that a test may change it."""
    return Net()


@pytest.fixture
def inputs() -> Tensor:
    """Model input [3, 3, 24, 24]."""
    return torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def classifier(net: Net, preprocess: Preprocess) -> Model:
    """The network with the preprocessing of pictures."""
    return Model(net, preprocess, precision="fp32", compile=False, device="cpu")


@pytest.fixture(scope="session")
def patches() -> Tensor:
    """Superpixels int64 [1, 1, 24, 24]: 16 squares."""
    row = torch.arange(SIZE) // 6
    return (row[:, None] * 4 + row[None])[None, None]


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest one, as a share of the largest number."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()
