"""What tests of several explainers share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastxai.models import Model


def normalized(model: Model, pictures: Tensor) -> Tensor:
    """Model input of uint8 pictures, written out."""
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (model.preprocess.mean, model.preprocess.std))
    return (pictures / 255 - mean) / std


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
