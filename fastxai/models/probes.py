"""What can be read from a model for a row: the probes, and the readings they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fastxai.config import check_choice


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


Probe = Scores | InputGradients


@dataclass(frozen=True)
class Reading:
    """What a probe gave for R rows: scores float32 [R, K]; gradients float32 [R, K, C, H, W], contiguous, or None."""

    scores: Tensor
    gradients: Tensor | None = None


@dataclass(frozen=True)
class Recording:
    """A layer's output for P inputs, and the gradient of each target's raw score with respect to it.

    activation float32 [P, D, h, w]; gradients float32 [P, K, D, h, w].
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
