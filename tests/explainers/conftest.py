"""What the tests of the methods share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fastxai as fx
from fastxai.models import Model
from fastxai.results import MethodResult

SETTINGS = fx.Settings(precision="fp32")  # given, so that nothing is spent on calibration


class _Shared(list):
    def __deepcopy__(self, memo):
        return self


class _Counting(nn.Module):
    """Counts the rows of every call, in a list that copies of the module share."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.__dict__["seen"] = _Shared()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(x))
        return self.module(x)


@pytest.fixture
def counted(convolutional: Model) -> Model:
    """The convolutional model; `counted.module.seen` lists the rows of every call."""
    return Model(
        _Counting(convolutional.module), convolutional.preprocess, precision="fp32", compile=False, device="cpu"
    )


def normalized(model: Model, pictures: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(v).reshape(-1, 1, 1) for v in (model.preprocess.mean, model.preprocess.std))
    return (pictures / 255 - mean) / std


def gradients(model: Model, x: torch.Tensor, target: int) -> torch.Tensor:
    """d score / dx for every row, by plain autograd."""
    leaf = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(model.module(leaf)[:, target].sum(), leaf)
    return found


def explain(model: Model, pictures: torch.Tensor, config, **options) -> MethodResult:
    """One method's results, without calibration."""
    return fx.explain(model, pictures, config, **{"settings": SETTINGS, **options})[config.name]
