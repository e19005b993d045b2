"""The protocol of explainers: a policy without a loop.

An `Explainer` is a frozen configuration. `begin` makes its `Task` for a batch of images; the engine then asks the
task for a `Block` of rows, turns chunks of it into model inputs, reads the probe, folds the readings back, and asks
again until the task answers `None`; `finish` gives the results. A task never calls the model and never sees where
a chunk begins: readings are folded in row order, whatever the chunk borders.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from torch import Tensor

from fastxai.config import Config
from fastxai.errors import ArgumentError
from fastxai.types import Field, Preprocess, Segments

if TYPE_CHECKING:
    from fastxai.models import Probe, Reading, Recording, Session
    from fastxai.segments import Segmenter

MAPPED_TARGETS = 32  # maps of more than these take more memory than all else together


@dataclass(frozen=True)
class Block:
    """Rows of one kind for the engine: R rows, those of one image in ascending ordinal.

    image int64 [R]: index into the batch; ordinal int64 [R]: the row's number in its image's own sequence, from which
    everything random about it is drawn; both on the CPU whatever the device, so that reading them makes no GPU wait.
    probe: what to read from the model; targets int64 [R, T] where a row is read at other classes than its image's.
    """

    image: Tensor
    ordinal: Tensor
    probe: Probe
    targets: Tensor | None = None

    def __len__(self) -> int:
        return int(self.image.shape[0])

    def cut(self, start: int, stop: int) -> Block:
        """Rows start..stop of the block."""
        targets = None if self.targets is None else self.targets[start:stop]
        return Block(self.image[start:stop], self.ordinal[start:stop], self.probe, targets)


@dataclass(frozen=True)
class Batch:
    """What a task may look at: B readable images after the prediction pass, on the model's device.

    pixels uint8 [B, C, H, W]; inputs float32 [B, C, H, W] normalised; digests: B hex strings; targets int64 [B, K];
    logits float32 [B, classes] raw model output; segments by `Segmenter.key`; recordings of the layers
    that this explainer asked for, in its order, and the names of these.
    `given_inputs`: the pictures came as ready model input (`inputs` is the truth, `pixels` a rendition of it).
    """

    pixels: Tensor
    inputs: Tensor
    digests: list[str]
    targets: Tensor
    logits: Tensor
    segments: Mapping[str, Segments]
    recordings: tuple[Recording, ...]
    preprocess: Preprocess
    seed: int
    dtype: torch.dtype  # of the model's input
    given_inputs: bool = False
    layers: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.pixels.shape[0])


class Task(Protocol):
    """One explainer at work on one batch."""

    def rows(self) -> Block | None:
        """The next rows, or None when done. Called again only after all rows of the last block were folded."""

    def inputs(self, block: Block) -> Tensor:
        """Model inputs [R, C, H, W] for the rows of (a cut of) the block, in `Batch.dtype` or float32."""

    def fold(self, block: Block, reading: Reading) -> None:
        """Take in the readings of (a cut of) the block; called in row order. Where memory runs out, none are taken."""

    def finish(self) -> Mapping[str, Tensor]:
        """Results by field name, [B, ...] each."""


@dataclass(frozen=True)
class Explainer(Config):
    """Base of explainers. `name` tells two configurations of one method apart; "" means the method's name."""

    layer_gradients: ClassVar[bool] = True  # whether recorded layers need more than their activations
    name: str = dataclasses.field(default="", kw_only=True)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.method)
        if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", self.name):
            raise ArgumentError(f"name must be lower-case letters, digits, '-', '_' and '.', got {self.name!r}")

    def settle(self, preprocess: Preprocess, ids: Sequence[str]) -> Explainer:
        """The same configuration with everything at hand that a run needs from outside: pictures loaded, ready label
        maps laid to the ids of the source (in source order). Raises `ArgumentError` before any work starts."""
        return self

    def segmenters(self) -> tuple[Segmenter, ...]:
        """Segmenters whose label maps `begin` needs."""
        return ()

    def layers(self, session: Session) -> tuple[str, ...]:
        """Layers that the prediction pass must record; raises `ArgumentError` for a layer that does not exist."""
        return ()

    def check_targets(self, targets: int) -> None:
        """Raise `ArgumentError` where so many targets an image cannot be explained."""

    def row_count(self, targets: int) -> Mapping[str, int]:
        """Expected rows an image by probe kind, for calibration and time left: "scores", "gradients", "directions" or
        "injected"."""
        return {}

    def expected_rows(self, targets: int, session: Session) -> Mapping[str, int]:
        """`row_count`, where it takes a running model to know it: asked once before any work, with nothing compiled.

        Raises `ArgumentError` for what only a try shows not to work.
        """
        return self.row_count(targets)

    def fields(self) -> tuple[Field, ...]:
        """The data sets that `Task.finish` gives, `maps` first. Optional ones may be missing, see `kept_fields`."""
        raise NotImplementedError

    def kept_fields(self, targets: int, compact: bool = False) -> tuple[Field, ...]:
        """The fields that are kept: optional ones are not where a run is compact, or with more than 32 targets."""
        everything = shows_maps(targets) and not compact
        return tuple(field for field in self.fields() if everything or not field.optional)

    def begin(self, batch: Batch) -> Task:
        """A task for this batch."""
        raise NotImplementedError

    def rebuild(self, field: str, data: Mapping[str, Tensor], labels: Tensor | None, size: tuple[int, int]) -> Tensor:
        """An optional field [N, ...] from the others, for stores that left it out. labels int32 [N, H, W]."""
        raise NotImplementedError(f"{self.method} cannot rebuild {field!r}")


def shows_maps(targets: int) -> bool:
    """Whether optional maps of so many targets are made; otherwise those that are looked at are rebuilt."""
    return targets <= MAPPED_TARGETS


def every_row(images: int, samples: int) -> tuple[Tensor, Tensor]:
    """image and ordinal int64 [images * samples] of rows 0..samples-1 of every image, those of one side by side."""
    return torch.arange(images).repeat_interleave(samples), torch.arange(samples).repeat(images)


class AtOnce:
    """Base for tasks that know all of their rows at the start."""

    _asked = False

    def rows(self) -> Block | None:
        if self._asked:
            return None
        self._asked = True
        return self.all_rows()

    def all_rows(self) -> Block:
        """All rows of the task."""
        raise NotImplementedError


class Done:
    """Base for tasks that need no rows of their own (all is in the prediction pass)."""

    def rows(self) -> Block | None:
        return None

    def inputs(self, block: Block) -> Tensor:
        raise AssertionError("this task asked for no rows")

    def fold(self, block: Block, reading: Reading) -> None:
        raise AssertionError("this task asked for no rows")
