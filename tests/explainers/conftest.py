"""What the tests of the methods share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fastxai as fx
from fastxai.models import Model
from fastxai.results import MethodResult

SETTINGS = fx.Settings(precision="fp32")  # given, so that nothing is spent on calibration


class Shared(list[int]):
    """A list that copies of a module share."""

    def __deepcopy__(self, memo: object) -> Shared:
        return self


class Counting(nn.Module):
    """Keeps how many rows it sees in each call."""

    seen: list[int]

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.__dict__["seen"] = Shared()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return self.module(x)


@pytest.fixture
def counted(convolutional: Model) -> Model:
    """The convolutional model; `counted.module.seen` lists the rows of every call."""
    return Model(
        Counting(convolutional.module), convolutional.preprocess, precision="fp32", compile=False, device="cpu"
    )


def normalized(model: Model, pictures: Tensor) -> Tensor:
    """Model input of uint8 pictures, written out."""
    mean, std = (torch.tensor(v).reshape(-1, 1, 1) for v in (model.preprocess.mean, model.preprocess.std))
    return (pictures / 255 - mean) / std


def gradients(model: Model, x: Tensor, target: int) -> Tensor:
    """d score / dx for every row, by plain autograd."""
    leaf = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(model.module(leaf)[:, target].sum(), leaf)
    return found


def explain(model: Model, pictures: Tensor, config: Any, **options: Any) -> MethodResult:
    """One method's results, without calibration."""
    return fx.explain(model, pictures, config, **{"settings": SETTINGS, **options})[config.name]
