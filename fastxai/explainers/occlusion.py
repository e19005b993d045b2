"""Occlusion: how much the score falls where a sliding window hides the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastxai import ops, sampling
from fastxai.config import check_choice, check_int
from fastxai.errors import ArgumentError
from fastxai.explainers.base import AtOnce, Batch, Block, Explainer, every_row
from fastxai.explainers.fills import check_channels, checked_fill, colour_of, fill_inputs
from fastxai.explainers.pixel_results import check_pixel_targets
from fastxai.models import Reading, Scores
from fastxai.transfer import on_device
from fastxai.types import Field, Preprocess

_SIDE = 224  # of a picture, for forecasts before the model is known


@dataclass(frozen=True)
class Occlusion(Explainer):
    """Occlusion: the mean over the windows that cover a pixel of f(x) - f(x with the window hidden).

    (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014; `captum.attr.Occlusion`.) window,
    stride: in pixels, one number or [down, right]. The first window lies in the upper left corner; windows follow
    until the picture is covered, and the last ones are cut off at its borders. A window hides all channels; the map
    has the value that captum gives to each of them.

    fill: what a window shows: "black", "mean" (each picture's own mean colour) or a colour as 0..255 per channel.
    explains: the raw "logit", as captum's models give it, or the class "probability".

    Model calls: one forward pass a window and one for the whole picture, whatever the number of targets.
    """

    method: ClassVar[str] = "occlusion"
    window: Any = 32
    stride: Any = 16
    fill: Any = "black"
    explains: str = "logit"
    windows: Windows | None = field(default=None, init=False, repr=False, compare=False)  # once it is settled

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "window", _pair("window", self.window))
        object.__setattr__(self, "stride", _pair("stride", self.stride))
        object.__setattr__(self, "fill", checked_fill(self.fill))
        check_choice("explains", self.explains, ("probability", "logit"))

    def settle(self, preprocess: Preprocess, ids: Sequence[str]) -> Occlusion:
        check_channels(self.fill, preprocess)
        settled = replace(self)
        object.__setattr__(settled, "windows", Windows.of(preprocess.size, self.window, self.stride))
        return settled

    def check_targets(self, targets: int) -> None:
        check_pixel_targets(self.name, targets)

    def row_count(self, targets: int) -> Mapping[str, int]:
        size = [max(_SIDE, length) for length in self.window]
        windows = self.windows or Windows.of((size[0], size[1]), self.window, self.stride)
        return {"scores": windows.count + 1}

    def fields(self) -> tuple[Field, ...]:
        return (Field("maps", ("target", "y", "x"), long_name="mean fall of the score where the pixel is hidden"),)

    def begin(self, batch: Batch) -> OcclusionTask:
        if self.windows is None:
            raise RuntimeError("occlusion is not settled: the size of the pictures is not known yet")
        return OcclusionTask(self, batch, self.windows)


@dataclass(frozen=True)
class Windows:
    """Windows that cover a picture, and the cells into which their borders cut it.

    down bool [rows of windows, rows of cells], across bool [columns of windows, columns of cells]: which cells a window
    covers. labels int32 [H, W]: the cell of every pixel, row by row.
    """

    down: Tensor
    across: Tensor
    labels: Tensor

    @classmethod
    def of(cls, size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]) -> Windows:
        """Windows of so many pixels for pictures of `size` (H, W); `ArgumentError` where they do not cover it."""
        axes = []
        for name, length, width, step in zip(("high", "wide"), size, window, stride, strict=True):
            if width > length:
                raise ArgumentError(f"window must be at most {length} {name} for this model, got {width}")
            if step > width < length:
                raise ArgumentError(f"stride must be at most the window, {width}, to leave no gaps, got {step}")
            starts = torch.arange(-(-(length - width) // step) + 1) * step
            ends = (starts + width).clamp_max(length)
            borders = torch.cat([starts, ends]).unique()  # sorted: 0 first, the picture's end last
            lows = borders[:-1]
            covers = (starts[:, None] <= lows) & (lows < ends[:, None])
            axes.append((covers, torch.bucketize(torch.arange(length), borders, right=True) - 1))
        (down, rows), (across, columns) = axes
        return cls(down, across, (rows[:, None] * across.shape[1] + columns).to(torch.int32))

    @property
    def count(self) -> int:
        return len(self.down) * len(self.across)

    def coalitions(self, number: Tensor) -> Tensor:
        """The cells that windows leave to be seen, packed: int64 [R] -> int32 [R, words]; all cells for number -1."""
        window = number.clamp_min(0)
        down = self.down[torch.div(window, len(self.across), rounding_mode="floor")]
        across = self.across[window % len(self.across)]
        hidden = (down.unsqueeze(2) & across.unsqueeze(1)).flatten(1) & (number >= 0).unsqueeze(1)
        return sampling.pack(~hidden)

    def spread(self, values: Tensor) -> Tensor:
        """Mean over the windows that cover a pixel: a value for every window [count] -> [H, W], in float64."""
        down, across = self.down.to(values.device, torch.float64), self.across.to(values.device, torch.float64)
        sums = down.T @ values.double().reshape(len(self.down), len(self.across)) @ across
        means = sums / torch.outer(down.sum(0), across.sum(0))
        return means.flatten()[self.labels.to(values.device).long()]


class OcclusionTask(AtOnce):
    """Row 0 of an image is the whole picture, row r window r - 1: values float32 [B, windows + 1, K]."""

    def __init__(self, config: Occlusion, batch: Batch, windows: Windows) -> None:
        self.batch, self.windows, self.probe = batch, windows, Scores(config.explains)
        images, device = len(batch), batch.inputs.device
        self.labels = windows.labels.to(device).expand(images, -1, -1).contiguous()
        if config.fill == "mean":  # of each picture, for all of its cells, in model-input units
            self.pictures, cells = batch.inputs, windows.down.shape[1] * windows.across.shape[1]
            self.fill = fill_inputs("mean", batch).unsqueeze(1).expand(-1, cells, -1).contiguous()
        elif batch.given_inputs:
            self.pictures, self.fill = batch.inputs, fill_inputs(config.fill, batch)[0]
        else:
            self.pictures = batch.pixels
            self.fill = torch.tensor(colour_of(config.fill, batch.pixels.shape[1]), dtype=torch.float32, device=device)
        self.values = torch.full((images, windows.count + 1, batch.targets.shape[1]), float("nan"), device=device)

    def all_rows(self) -> Block:
        return Block(*every_row(len(self.batch), self.windows.count + 1), self.probe)

    def inputs(self, block: Block) -> Tensor:
        return ops.compose_rows(
            self.pictures,
            self.labels,
            on_device(self.windows.coalitions(block.ordinal - 1), self.labels.device),
            block.image,
            self.fill,
            mean=self.batch.preprocess.mean,
            std=self.batch.preprocess.std,
            dtype=self.batch.dtype,
        )

    def fold(self, block: Block, reading: Reading) -> None:
        device = self.values.device
        self.values[on_device(block.image, device), on_device(block.ordinal, device)] = reading.scores

    def finish(self) -> Mapping[str, Tensor]:
        falls = (self.values[:, :1] - self.values[:, 1:]).transpose(1, 2)  # [B, K, windows]
        # One map at a time, so that no product has another shape in another batch.
        maps = torch.stack([self.windows.spread(fall) for fall in falls.flatten(0, 1)]).float()
        return {"maps": maps.reshape(*falls.shape[:2], *self.windows.labels.shape)}


def _pair(name: str, value: Any) -> tuple[int, int]:
    """One number for both directions, or one for each."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ArgumentError(f"{name} must be one number of pixels or two, down and right, got {value!r}")
        return check_int(name, value[0], 1), check_int(name, value[1], 1)
    both = check_int(name, value, 1)
    return both, both
