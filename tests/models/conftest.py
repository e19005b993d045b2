"""Small networks, each with one property that a session has to cope with."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fastxai.errors import CannotRun
from fastxai.models import Model
from fastxai.models.device import check_compiler
from fastxai.types import Preprocess


class Net(nn.Module):
    """conv, norm, in-place ReLU, a strided depthwise conv, a head that nothing in a forward pass uses, scores."""

    def __init__(self, channels: int = 3, classes: int = 5) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.conv = nn.Conv2d(channels, 8, 3, padding=1)
            self.norm = nn.BatchNorm2d(8)
            self.relu = nn.ReLU(inplace=True)
            self.depthwise = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
            self.last = nn.Conv2d(8, 12, 3, padding=1)
            self.act = nn.ReLU(inplace=True)
            self.unused = nn.Conv2d(3, 4, 1)
            self.head = nn.Linear(12, classes)
            self.norm.running_mean.uniform_(-0.3, 0.3)
            self.norm.running_var.uniform_(0.5, 2.0)
            self.norm.weight.data.uniform_(0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.relu(self.norm(self.conv(x))))
        return self.head(self.act(self.last(x)).mean(dim=(2, 3)))


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def state(module: nn.Module) -> tuple[object, ...]:
    """Everything of a module that a session could have changed; gradients and weights by identity and version."""
    parts = [
        (name, part.training, *(list(getattr(part, hooks)) for hooks in HOOKS)) for name, part in module.named_modules()
    ]
    weights = [
        (name, id(p), p.data_ptr(), p.dtype, p.stride(), p.requires_grad, p._version, id(p.grad))
        for name, p in module.named_parameters()
    ]
    buffers = [(name, b.data_ptr(), b.dtype, b._version) for name, b in module.named_buffers()]
    return parts, weights, buffers


@pytest.fixture
def compiler() -> None:
    """Skips where models cannot be compiled."""
    try:
        check_compiler(torch.device("cpu"))
    except CannotRun as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def net() -> type[Net]:
    return Net


@pytest.fixture(scope="session")
def small() -> Preprocess:
    return Preprocess((20, 20), 20, "bilinear", (0.5,) * 3, (0.5,) * 3)


@pytest.fixture(scope="session")
def wrap(small: Preprocess) -> Callable[..., Model]:
    """`wrap(module, ...)`: a CPU model of 20x20 inputs."""

    def make(module: nn.Module, *arguments: object, **options: object) -> Model:
        return Model(module, options.pop("preprocess", small), *arguments, device="cpu", **options)

    return make


@pytest.fixture
def rows() -> Tensor:
    return torch.randn(6, 3, 20, 20, generator=torch.Generator().manual_seed(7))
