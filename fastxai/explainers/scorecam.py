"""Score-CAM: the picture masked by each channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fastxai import ops
from fastxai.explainers.base import Batch, Block
from fastxai.explainers.cam import picture_size
from fastxai.explainers.channel_task import ChannelCam, ChannelTask
from fastxai.models import Probe, Scores


@dataclass(frozen=True)
class ScoreCam(ChannelCam):
    """Score-CAM: sum_d w_d A_d, w the softmax over channels of the raw score of the model input times mask d: channel
    d, resized to the picture and scaled to [0, 1] by its minimum and maximum.

    (Wang et al., "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks", CVPRW 2020;
    arithmetic of the `grad-cam` package, without the paper's score of a baseline, which cancels in the softmax.) One
    forward pass a channel and picture, for all targets together.

    channels: None for all of the layer's, or only so many, those that vary most over positions (the idea of
    Faster-Score-CAM, github.com/tabayashi0117/Score-CAM). layer and fields as of `GradCam`.
    """

    method: ClassVar[str] = "scorecam"
    rows_kind: ClassVar[str] = Scores.name

    def begin(self, batch: Batch) -> ScoreCamTask:
        return ScoreCamTask(self, batch)


class ScoreCamTask(ChannelTask):
    """A row: an image and a channel that masks it."""

    def probe(self) -> Probe:
        return Scores("logit")

    def inputs(self, block: Block) -> Tensor:
        image, ordinal = self.places(block)
        maps = self.recording.activation[image, self.chosen[self.at][image, ordinal]]
        # By the corners, as the package has it here (and nowhere else).
        grown = ops.upsample(maps.unsqueeze(0), picture_size(self.batch), align_corners=True).squeeze(0)
        low, high = grown.amin(dim=(1, 2), keepdim=True), grown.amax(dim=(1, 2), keepdim=True)
        masks = (grown - low) / (high - low + 1e-8)
        return self.batch.inputs[image] * masks.unsqueeze(1)

    def weights(self, values: Tensor) -> Tensor:
        return values.softmax(dim=1)
