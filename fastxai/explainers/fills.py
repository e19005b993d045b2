"""What hidden parts of a picture show."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastxai import ops
from fastxai.errors import ArgumentError
from fastxai.explainers.base import Batch
from fastxai.ops.normalize import normalize_values
from fastxai.types import Preprocess, Segments

Fill = str | tuple[float, ...]


def checked_fill(fill: Any) -> Any:
    """ "black", "mean" (each picture's own mean colour) or a colour as 0..255 per channel."""
    if fill in ("black", "mean"):
        return fill
    form = 'fill must be "black", "mean" or one number from 0 to 255 per channel'
    if isinstance(fill, str) or not hasattr(fill, "__len__"):
        raise ArgumentError(f"{form}, got {fill!r}")
    colour = tuple(float(value) for value in fill)
    if not all(0 <= value <= 255 for value in colour):
        raise ArgumentError(f"{form}, got {fill!r}")
    return colour


def check_channels(fill: Any, preprocess: Preprocess) -> None:
    """Raise `ArgumentError` for a colour that has not one number per channel."""
    if isinstance(fill, tuple) and len(fill) != preprocess.channels:
        raise ArgumentError(f"fill must have {preprocess.channels} channels for this model, got {fill}")


def colour_of(fill: Any, channels: int) -> tuple[float, ...]:
    """A fill that is one colour for all pictures, as 0..255 per channel."""
    return (0.0,) * channels if fill == "black" else fill


def fill_inputs(fill: Any, batch: Batch) -> Tensor:
    """The fill of every image in model-input units: float32 [B, C]."""
    if fill == "mean":  # a picture at a time, so that nothing depends on the batch
        return torch.stack([picture.mean(dim=(1, 2)) for picture in batch.inputs])
    channels = batch.inputs.shape[1]
    colour = torch.tensor([colour_of(fill, channels)], dtype=torch.float32, device=batch.inputs.device)
    values = normalize_values(colour, batch.preprocess.mean, batch.preprocess.std, axis=1)
    return values.expand(len(batch), channels)


def fill_values(fill: Fill, pictures: Tensor, segments: Segments, preprocess: Preprocess, given_inputs: bool) -> Tensor:
    """What hidden segments show, in the pictures' own units: float32 [C], or [B, S, C] for "mean".

    A segment's mean colour of uint8 pictures is cut to whole numbers, as the `lime` package does.
    """
    if fill == "mean":
        return ops.segment_mean(pictures, segments.labels, int(segments.counts.max()), truncate=not given_inputs)
    colour = (0.0,) * preprocess.channels if fill == "black" else fill
    values = torch.tensor(colour, dtype=torch.float32, device=pictures.device)
    if given_inputs:
        mean, std = torch.tensor([preprocess.mean, preprocess.std], dtype=torch.float32, device=pictures.device)
        values = (values / 255 - mean) / std
    return values


def hidden_inputs(fill: Tensor, batch: Batch, segments: Segments) -> Tensor:
    """Pictures with every segment hidden, in model-input units: float32 [B, C, H, W]; fill as `fill_values` gave it."""
    if not batch.given_inputs:
        fill = normalize_values(fill, batch.preprocess.mean, batch.preprocess.std, axis=-1)
    if fill.dim() == 1:
        return fill[None, :, None, None].expand_as(batch.inputs)
    painted = [colours[labels.long()] for colours, labels in zip(fill, segments.labels, strict=True)]
    return torch.stack(painted).movedim(-1, 1)
