"""Inputs and layers in the forms that tools around modules have them, for the engine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fastxai.errors import ArgumentError, ArgumentTypeError, CannotRun
from fastxai.types import ImageBatch, Status


def image_batch(inputs: Tensor) -> ImageBatch:
    """Ready model input [N, C, H, W] as a batch for the engine; its pictures are blank."""
    count, channels, height, width = inputs.shape
    ready = inputs.detach().to("cpu", torch.float32).contiguous()
    whole = torch.tensor([0.0, 0.0, width, height])
    return ImageBatch(
        ids=[str(image) for image in range(count)],
        digests=[str(image) for image in range(count)],
        status=[Status.OK] * count,
        errors=[""] * count,
        sizes=torch.tensor([[height, width]] * count, dtype=torch.int32),
        crops=whole.repeat(count, 1),
        labels=torch.full((count,), -1),
        pixels=torch.zeros(count, channels, height, width, dtype=torch.uint8),
        inputs=ready,
    )


def check_all_explained(images: ImageBatch) -> None:
    """Raise `CannotRun` for the first picture that could not be explained: these tools have no rows for failures."""
    for image, (status, error) in enumerate(zip(images.status, images.errors, strict=True)):
        if status is not Status.OK:
            raise CannotRun(f"input {image} cannot be explained: {error}")


def layer_name(module: nn.Module | None, layer: Any) -> str:
    """The name of a layer, given as the module itself."""
    if module is None:
        raise ArgumentTypeError("model must be the module that holds the layer, got a function")
    for name, part in module.named_modules():
        if part is layer and name:
            return name
    raise ArgumentError(f"layer must be a part of the model, got {type(layer).__name__} that is not")
