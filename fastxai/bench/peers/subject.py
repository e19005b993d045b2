"""What a peer is given, and what it gives back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastxai.explainers import Explainer
from fastxai.models import Model
from fastxai.targets import ranked

# By class: segment weights [S], in the order of ascending labels, or a signed map [H, W].
Answer = Mapping[int, NDArray[np.floating]]
Explain = Callable[[int], Answer]  # of one picture, by its number


@dataclass(frozen=True)
class Subject:
    """The user's side of a comparison: a plain float32 model in evaluation mode, and pictures in memory.

    module is a copy of the user's on `device`, with gradients of its parameters on, as it comes. pixels uint8
    [N, C, H, W] on the CPU, in the model's geometry; targets int64 [N, K]: the K most probable classes in float32;
    layer: the name of the layer that Grad-CAM looks at, "" where there is none.
    """

    model: Model
    module: nn.Module
    device: torch.device
    pixels: Tensor
    targets: Tensor
    explainer: Explainer
    layer: str = ""
    seed: int = 0

    @property
    def classes(self) -> int:
        return int(self.targets.shape[1])

    def inputs(self, pixels: Tensor) -> Tensor:
        """Pixels uint8 [B, C, H, W] -> model inputs float32 [B, C, H, W] on the device."""
        return normalized(self.model, pixels.to(self.device))

    def picture(self, index: int) -> Tensor:
        """Model input float32 [1, C, H, W] of a picture."""
        return self.inputs(self.pixels[index : index + 1])

    def black(self) -> Tensor:
        """Model input float32 [1, C, H, W] of a black picture."""
        return self.inputs(torch.zeros_like(self.pixels[:1]))


def plain_copy(module: nn.Module, device: torch.device) -> nn.Module:
    """The user's module as it comes, float32 and ready for inference, on `device`."""
    plain = copy.deepcopy(module).float().to(device)
    plain.eval()
    return plain


def normalized(model: Model, pixels: Tensor) -> Tensor:
    """Pixels uint8 [B, C, H, W] -> model inputs float32 [B, C, H, W], on the device of the pixels."""
    pre = model.preprocess
    mean, std = (torch.tensor(v, device=pixels.device).reshape(-1, 1, 1) for v in (pre.mean, pre.std))
    found: Tensor = (pixels / 255 - mean) / std
    return found


def best_classes(model: Model, module: nn.Module, pixels: Tensor, count: int) -> Tensor:
    """The `count` most probable classes of pictures uint8 [N, C, H, W] by the plain `module`: int64 [N, count]."""
    found = []
    with torch.inference_mode():
        for part in pixels.split(8):
            logits = module(normalized(model, part.to(model.device)))
            found.append(ranked(model.probabilities(logits), count).cpu())
    return torch.cat(found).clone()
