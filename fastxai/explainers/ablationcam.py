"""Ablation-CAM: what the score loses without each channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fastxai.explainers.base import Batch, Block
from fastxai.explainers.channel_task import ChannelCam, ChannelTask
from fastxai.models import InjectedScores, Probe, Session, pack_injections
from fastxai.transfer import on_device


@dataclass(frozen=True)
class AblationCam(ChannelCam):
    """Ablation-CAM: sum_d w_d A_d with w_d = (y - y_d) / y, y the raw score and y_d that with channel d set to 0.

    (Desai and Ramaswamy, "Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free
    Localization", WACV 2020, equation 2.) The `grad-cam` package agrees where the smallest activation is 0, as behind a
    ReLU; elsewhere it writes numbers below -1e7 in place of the paper's 0. One row a channel and picture, and one with
    nothing ablated, for all targets together; where all that reaches the scores comes through the layer, what lies
    before it is run once for many rows.

    channels: None for all of the layer's, or only so many, those that vary most over positions; the others count 0.
    layer and fields as of `GradCam`.
    """

    method: ClassVar[str] = "ablationcam"
    rows_kind: ClassVar[str] = InjectedScores.name
    rows_beside: ClassVar[int] = 1

    def expected_rows(self, targets: int, session: Session) -> Mapping[str, int]:
        for layer in self.layers(session):
            session.check_injection(InjectedScores(layer, session.map_shape(layer)))
        return super().expected_rows(targets, session)

    def begin(self, batch: Batch) -> AblationCamTask:
        return AblationCamTask(self, batch)


class AblationCamTask(ChannelTask):
    """A row: an image and a channel that is set to 0; of each image the first row ablates nothing.

    That row and not the prediction gives y: the difference of two scores should not hold that of two shapes of a call,
    or of compiled and other code.
    """

    def probe(self) -> Probe:
        channels, height, width = self.recording.activation.shape[1:]
        return InjectedScores(self.batch.layers[self.at], (channels, height, width))

    def inputs(self, block: Block) -> Tensor:
        image, ordinal = self.places(block)
        activations = self.recording.activation[image]
        ablated = on_device((block.ordinal > 0).nonzero().flatten(), image.device)
        activations[ablated, self.chosen[self.at][image[ablated], ordinal[ablated] - 1]] = 0
        return pack_injections(self.batch.inputs[image], activations)

    def weights(self, values: Tensor) -> Tensor:
        whole = values[:, :1]
        return (whole - values[:, 1:]) / whole
