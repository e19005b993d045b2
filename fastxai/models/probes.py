"""What can be read from a model for a row: the probes, and the readings they give."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fastxai.config import check_choice, check_int


@dataclass(frozen=True)
class Scores:
    """The targets' scores, by one forward pass: `probability` (the model's output function applied) or `logit`."""

    kind: str = "probability"
    name: ClassVar[str] = "scores"

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, ("probability", "logit"))


@dataclass(frozen=True)
class InputGradients:
    """Gradients of the K targets' raw scores with respect to the input: one forward and K backward passes."""

    name: ClassVar[str] = "gradients"


@dataclass(frozen=True)
class DirectionalDerivatives:
    """Derivatives of the K targets' raw scores along D = `directions` parts of a difference, by forward mode.

    The cost does not depend on K. Its rows are points with their directions, as `pack_directions` lays them together.
    """

    directions: int = 8
    name: ClassVar[str] = "directions"

    def __post_init__(self) -> None:
        check_int("directions", self.directions, 1)


@dataclass(frozen=True)
class InjectedScores:
    """The targets' raw scores with other activations, of `shape` D, h, w, in the place of a layer's output.

    Its rows are pictures with the activations to inject, as `pack_injections` lays them together.
    """

    layer: str
    shape: tuple[int, int, int]
    name: ClassVar[str] = "injected"


Probe = Scores | InputGradients | DirectionalDerivatives | InjectedScores


def pack_directions(points: Tensor, differences: Tensor, parts: Tensor) -> Tensor:
    """Rows for `DirectionalDerivatives`: float32 [R, 2C+1, H, W], so that D directions take the memory of two.

    Direction d of a row is its difference where the part of a pixel is d, and 0 elsewhere. points, differences
    [R or 1, C, H, W]; parts [R, H, W], numbers outside of 0..D-1 belong to no direction.
    """
    shape = (len(parts), *points.shape[1:])
    planes = (points.expand(shape), differences.expand(shape), parts.unsqueeze(1))
    return torch.cat([plane.to(torch.float32) for plane in planes], dim=1)


def unpack_directions(packed: Tensor, directions: int) -> tuple[Tensor, Tensor]:
    """Points [R, C, H, W] and tangents [D, R, C, H, W] of rows that `pack_directions` made."""
    channels = packed.shape[1] // 2
    points, differences, parts = packed.split((channels, channels, 1), dim=1)
    numbers = torch.arange(directions, device=packed.device).reshape(-1, 1, 1, 1, 1)
    return points, differences * (parts == numbers)


def pack_injections(pictures: Tensor, activations: Tensor) -> Tensor:
    """Rows for `InjectedScores`: pictures [R, C, H, W] and activations [R, D, h, w] -> float32 [R, C*H*W + D*h*w]."""
    return torch.cat([part.to(torch.float32).flatten(1) for part in (pictures, activations)], dim=1)


def unpack_injections(
    packed: Tensor, picture: tuple[int, int, int], activation: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """Pictures [R, C, H, W] and activations [R, D, h, w] of rows that `pack_injections` made, by their shapes."""
    pictures, activations = packed.split((math.prod(picture), math.prod(activation)), dim=1)
    return pictures.unflatten(1, picture), activations.unflatten(1, activation)


@dataclass(frozen=True)
class Reading:
    """What a probe gave for R rows: scores float32 [R, K]; where it reads them, gradients float32 [R, K, C, H, W],
    contiguous, and derivatives float32 [R, K, D]."""

    scores: Tensor
    gradients: Tensor | None = None
    derivatives: Tensor | None = None

    def first(self, count: int) -> Reading:
        """The reading of the first `count` rows."""
        gradients = None if self.gradients is None else self.gradients[:count]
        derivatives = None if self.derivatives is None else self.derivatives[:count]
        return Reading(self.scores[:count], gradients, derivatives)


@dataclass(frozen=True)
class Recording:
    """A layer's output for P inputs, and the gradient of each target's raw score with respect to it.

    activation float32 [P, D, h, w]; gradients float32 [P, K, D, h, w], K = 0 where none were asked for.
    """

    activation: Tensor
    gradients: Tensor


class Prediction:
    """One forward pass over P inputs: logits float32 [P, classes], and the layers it recorded.

    The recorded part of the graph lives until `recordings` was called once, or until the prediction is dropped.
    """

    def __init__(self, logits: Tensor, record: Callable[[Tensor], Mapping[str, Recording]]) -> None:
        self.logits = logits
        self._record: Callable[[Tensor], Mapping[str, Recording]] | None = record

    def recordings(self, targets: Tensor) -> dict[str, Recording]:
        """Layer name -> `Recording` for targets int64 [P, K]; can be asked for once, for it frees the graph."""
        if self._record is None:
            raise RuntimeError("recordings were read already: their graph is freed")
        record, self._record = self._record, None
        return dict(record(targets))
