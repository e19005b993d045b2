"""Where the paths of GradientSHAP begin: one baseline for all, one per picture, a data set, or noise in every row."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from fastxai import images, ops, sampling
from fastxai.config import Config
from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.explainers.base import Batch, Block, every_row
from fastxai.models import Scores
from fastxai.types import Preprocess, Status

KINDS = ("black", "mean", "blur", "random")


@dataclass(frozen=True)
class Baselines(Config):
    """A data set of baselines: uint8 pictures [M, C, H, W] of the model's size, or what `open_source` takes.

    A configuration read back from a run knows only the digest of its pictures.
    """

    method: ClassVar[str] = "dataset"
    pictures: Any = field(default=None, compare=False, repr=False)
    digest: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"method": self.method, "digest": self.digest}

    def load(self, preprocess: Preprocess) -> Baselines:
        """The same with its pictures decoded to the model's size: uint8 [M, C, H, W]. Every one must be readable."""
        if self.pictures is None:
            raise ArgumentError("baseline must be given again: a run keeps only the digest of its pictures")
        loaded = []
        try:
            source = images.open_source(self.pictures)
        except ArgumentError as error:
            raise ArgumentError(f"baseline must be one of {', '.join(KINDS)}, or pictures: {error}") from error
        for batch in images.load_batches(source, preprocess, batch=64):
            for image_id, status, reason in zip(batch.ids, batch.status, batch.errors, strict=True):
                if status is not Status.OK:
                    raise ArgumentError(f"baseline must hold readable pictures, got {image_id!r}: {reason}")
            loaded.append(batch.pixels)
        pictures = torch.cat(loaded)
        digest = hashlib.blake2b(pictures.numpy().tobytes(), digest_size=16).hexdigest()
        return replace(self, pictures=pictures, digest=digest)


def as_baseline(value: Any) -> Any:
    """One of `KINDS`, or a data set of baselines."""
    if isinstance(value, Baselines) or (isinstance(value, str) and value in KINDS):
        return value
    if isinstance(value, dict) and value.get("method") == Baselines.method:
        return Baselines(digest=str(value["digest"]))
    if value is None or isinstance(value, (bool, int, float)):
        raise ArgumentTypeError(f"baseline must be {', '.join(KINDS)}, pictures or a folder, got {value!r}")
    return Baselines(value)


class BaselineRows(Protocol):
    """The baselines of a batch."""

    @property
    def count(self) -> int:
        """How many baselines a row draws from."""

    @property
    def fixed(self) -> bool:
        """Whether all rows of an image have the same baseline."""

    def of_rows(self, block: Block, index: Tensor) -> Tensor:
        """The baseline of each path row: [R or 1, C, H, W]; index int64 [R] is the one drawn."""

    def block(self, targets: Tensor, samples: int) -> Block:
        """Rows that read the score of every baseline once; targets int64 [B, K]."""

    def of_block(self, block: Block) -> Tensor:
        """Model inputs for the rows of `block`."""

    def mean_scores(self, scores: Tensor, index: Tensor) -> Tensor:
        """Readings of `block` and the baselines drawn, int64 [B, n], -> mean score over rows [B, K]."""


def make_baselines(kind: Any, blur: float, batch: Batch, keys: Tensor) -> BaselineRows:
    """The baselines of a batch in model-input units."""
    preprocess, device = batch.preprocess, batch.inputs.device
    if kind == "black":
        black = torch.zeros(1, *batch.pixels.shape[1:], dtype=torch.uint8, device=device)
        return SharedBank(ops.normalize(black, preprocess.mean, preprocess.std), len(batch))
    if kind == "mean":
        means = torch.stack([picture.mean(dim=(1, 2), keepdim=True) for picture in batch.inputs])
        return PerImage(means.expand_as(batch.inputs))
    if kind == "blur":
        return PerImage(torch.stack([blurred(picture, blur) for picture in batch.inputs]))
    if kind == "random":
        return Noise(batch, keys)
    pictures = kind.pictures.to(device)
    return SharedBank(ops.normalize(pictures, preprocess.mean, preprocess.std), len(batch))


@dataclass(frozen=True)
class SharedBank:
    """The same M baselines for every image: bank float32 [M, C, H, W]."""

    bank: Tensor
    images: int

    @property
    def count(self) -> int:
        return len(self.bank)

    @property
    def fixed(self) -> bool:
        return len(self.bank) == 1

    def of_rows(self, block: Block, index: Tensor) -> Tensor:
        return self.bank if self.fixed else self.bank[index]

    def block(self, targets: Tensor, samples: int) -> Block:
        number = torch.arange(self.count)
        # One row serves all images: it is read at the targets of all of them.
        return Block(torch.zeros_like(number), number, Scores("logit"), targets.reshape(1, -1).expand(self.count, -1))

    def of_block(self, block: Block) -> Tensor:
        return self.bank[block.ordinal]

    def mean_scores(self, scores: Tensor, index: Tensor) -> Tensor:
        by_image = scores.reshape(self.count, self.images, -1).transpose(0, 1)  # [B, M, K]
        drawn = index.unsqueeze(2).expand(-1, -1, by_image.shape[2])
        return by_image.gather(1, drawn).mean(1)


@dataclass(frozen=True)
class PerImage:
    """One baseline per image: bank float32 [B, C, H, W]."""

    bank: Tensor
    count: int = 1
    fixed: bool = True

    def of_rows(self, block: Block, index: Tensor) -> Tensor:
        return self.bank[block.image]

    def block(self, targets: Tensor, samples: int) -> Block:
        number = torch.arange(len(self.bank))
        return Block(number, torch.zeros_like(number), Scores("logit"))

    def of_block(self, block: Block) -> Tensor:
        return self.bank[block.image]

    def mean_scores(self, scores: Tensor, index: Tensor) -> Tensor:
        return scores


class Noise:
    """Uniform noise over the pixel range, new in every row."""

    count = 1
    fixed = False

    def __init__(self, batch: Batch, keys: Tensor) -> None:
        channels, height, width = batch.inputs.shape[1:]
        self.shape, self.keys, self.images = (channels, height, width), keys, len(batch)
        values = torch.tensor([batch.preprocess.mean, batch.preprocess.std], device=keys.device)
        self.mean, self.std = values.reshape(2, 1, channels, 1, 1)

    def of_rows(self, block: Block, index: Tensor) -> Tensor:
        noise = sampling.pixel_uniforms(self.keys, block.image, block.ordinal, self.shape)
        return (noise - self.mean) / self.std

    def block(self, targets: Tensor, samples: int) -> Block:
        return Block(*every_row(self.images, samples), Scores("logit"))

    def of_block(self, block: Block) -> Tensor:
        return self.of_rows(block, block.ordinal)

    def mean_scores(self, scores: Tensor, index: Tensor) -> Tensor:
        return scores.reshape(*index.shape, -1).mean(1)


def blurred(picture: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur of one picture [C, H, W], by itself so that nothing depends on the batch."""
    from scipy.ndimage import gaussian_filter

    values = picture.cpu().numpy()
    smooth = gaussian_filter(values, sigma=(0, sigma, sigma), mode="nearest")
    return torch.from_numpy(np.ascontiguousarray(smooth)).to(picture.device)
