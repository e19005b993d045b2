"""The part that the methods with a row a channel share: which channels, their rows, the scores read with each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fastxai.config import check_int
from fastxai.explainers.base import Batch, Block, every_row
from fastxai.explainers.cam import Cam, picture_size
from fastxai.models import Probe, Reading, Recording, Session
from fastxai.transfer import on_device

_CHANNELS = 1024  # of a layer that nobody has looked at


@dataclass(frozen=True)
class ChannelCam(Cam):
    """Base of methods that read the model once a channel. channels: None for all of a layer, or only so many, those
    that vary most over positions: what is the same everywhere moves a whole map and shows nothing on it."""

    layer_gradients: ClassVar[bool] = False
    rows_kind: ClassVar[str]  # of probe
    rows_beside: ClassVar[int] = 0  # of each layer, beside one a channel
    channels: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels is not None:
            check_int("channels", self.channels, 1)

    def row_count(self, targets: int) -> Mapping[str, int]:
        return self._rows([self.channels or _CHANNELS] * len(self.natives))

    def expected_rows(self, targets: int, session: Session) -> Mapping[str, int]:
        return self._rows([session.map_shape(layer)[0] for layer in self.layers(session)])

    def _rows(self, channels: Sequence[int]) -> Mapping[str, int]:
        most = self.channels or max(channels)
        return {self.rows_kind: sum(self.rows_beside + min(most, count) for count in channels)}


class ChannelTask:
    """Rows for chosen channels of every image, layer after layer; subclasses make inputs of them, and weights of
    what was read.

    chosen: of each layer int64 [B, n], ascending; values: of each layer float32 [B, rows, K] once all were folded.
    """

    def __init__(self, config: ChannelCam, batch: Batch) -> None:
        self.config, self.batch = config, batch
        self.chosen = [most_varied(recording.activation, config.channels) for recording in batch.recordings]
        images, targets = batch.targets.shape
        self.values = [
            torch.full((images, config.rows_beside + found.shape[1], targets), float("nan"), device=found.device)
            for found in self.chosen
        ]
        self.at = -1  # the layer in work

    def rows(self) -> Block | None:
        if self.at + 1 == len(self.chosen):
            return None
        self.at += 1
        return Block(*every_row(len(self.batch), self.values[self.at].shape[1]), self.probe())

    def fold(self, block: Block, reading: Reading) -> None:
        self.values[self.at][self.places(block)] = reading.scores

    def finish(self) -> Mapping[str, Tensor]:
        natives = []
        for recording, chosen, values in zip(self.batch.recordings, self.chosen, self.values, strict=True):
            # An image at a time, so that nothing is added up in another order than it would be alone.
            each = zip(recording.activation, chosen, self.weights(values), strict=True)
            natives.append(torch.stack([_combined(activation[kept], w) for activation, kept, w in each]))
        return self.config.results(natives, picture_size(self.batch))

    @property
    def recording(self) -> Recording:
        """Of the layer in work."""
        return self.batch.recordings[self.at]

    def places(self, block: Block) -> tuple[Tensor, Tensor]:
        """Image and ordinal of each row, on the device."""
        device = self.batch.inputs.device
        return on_device(block.image, device), on_device(block.ordinal, device)

    def probe(self) -> Probe:
        """What the rows of the layer in work are read with."""
        raise NotImplementedError

    def inputs(self, block: Block) -> Tensor:
        raise NotImplementedError

    def weights(self, values: Tensor) -> Tensor:
        """Scores of a layer's rows [B, rows, K] -> weights of its chosen channels [B, n, K]."""
        raise NotImplementedError


def most_varied(activation: Tensor, channels: int | None) -> Tensor:
    """Channels int64 [B, n] of activations [B, D, h, w], ascending: all, or those with the largest variance."""
    images, count = activation.shape[:2]
    if channels is None or channels >= count:
        return torch.arange(count, device=activation.device).expand(images, count)
    found = []
    for single in activation:  # by itself: the order of additions must not follow from the batch
        spread = single.flatten(1).var(dim=1, correction=0)
        found.append(spread.sort(descending=True, stable=True).indices[:channels].sort().values)
    return torch.stack(found)


def _combined(activation: Tensor, weights: Tensor) -> Tensor:
    """sum_d w_d A_d: [n, h, w] and [n, K] -> [K, h, w]."""
    return (weights.T @ activation.flatten(1)).unflatten(1, activation.shape[1:])
