"""SmoothGrad and its two relatives: gradients at noisy copies of the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fastxai import ops, sampling
from fastxai.config import check_choice, check_float, check_int
from fastxai.errors import ArgumentError
from fastxai.explainers.base import Batch, Block
from fastxai.explainers.pixel_gradients import PixelGradients, PixelGradientsTask
from fastxai.transfer import on_device

_SHARE = 0.15  # of the range of a picture's values: the paper recommends 10 to 20 %


@dataclass(frozen=True)
class SmoothGrad(PixelGradients):
    """SmoothGrad: the mean over `samples` of g = dF/dx at x + N(0, stdevs^2), F the raw score of the target.

    (Smilkov, Thorat, Kim, Viegas and Wattenberg, "SmoothGrad: removing noise by adding noise", 2017.) Noise is keyed
    by (seed, image, row). stdevs: in model-input units, as captum has it; "auto" takes 15 % of the range of the values
    of each picture's model input, within what the paper recommends.

    variant: "plain", the mean of g; "squared", the mean of g^2 (Hooker et al., "A Benchmark for Interpretability
    Methods in Deep Neural Networks", 2019); "vargrad", mean of g^2 - (mean of g)^2 (Adebayo et al., "Local Explanation
    Methods for Deep Neural Networks Lack Sensitivity to Parameter Values", 2018): the three of
    `captum.attr.NoiseTunnel`. absolute: |g| in place of g, as captum's tunnel around its `Saliency` has it by default.

    Model calls: `samples` forward passes an image, each with a backward pass a target.
    """

    method: ClassVar[str] = "smoothgrad"
    samples: int = 50
    stdevs: float | str = "auto"
    variant: str = "plain"
    absolute: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("samples", self.samples, 1)
        if isinstance(self.stdevs, str):
            if self.stdevs != "auto":
                raise ArgumentError(f'stdevs must be "auto" or a number, got {self.stdevs!r}')
        else:
            check_float("stdevs", self.stdevs, 0, above=True)
        check_choice("variant", self.variant, ("plain", "squared", "vargrad"))
        if not isinstance(self.absolute, bool):
            raise ArgumentError(f"absolute must be True or False, got {self.absolute!r}")

    def row_count(self, targets: int) -> Mapping[str, int]:
        return {"gradients": self.samples}

    def begin(self, batch: Batch) -> SmoothGradTask:
        return SmoothGradTask(self, batch)


class SmoothGradTask(PixelGradientsTask):
    """Sums of gradients, of their squares, or of both."""

    def __init__(self, config: SmoothGrad, batch: Batch) -> None:
        super().__init__(config, batch, config.samples)
        self.config = config
        self.keys = sampling.stream_keys(batch.seed, batch.digests, config.method).to(batch.inputs.device)
        if isinstance(config.stdevs, str):
            values = batch.inputs.flatten(1)
            self.stdevs = _SHARE * (values.amax(1) - values.amin(1))
        else:
            self.stdevs = torch.full((len(batch),), config.stdevs, device=batch.inputs.device)
        self.squares = torch.zeros_like(self.sums) if config.variant == "vargrad" else None

    def inputs(self, block: Block) -> Tensor:
        pictures = super().inputs(block)
        shape = (pictures.shape[1], pictures.shape[2], pictures.shape[3])
        noise = sampling.pixel_normals(self.keys, block.image, block.ordinal, shape)
        stdevs = self.stdevs[on_device(block.image, self.stdevs.device)]
        return pictures + stdevs.reshape(-1, 1, 1, 1) * noise

    def add(self, block: Block, gradients: Tensor) -> None:
        values = gradients.abs() if self.config.absolute else gradients
        if self.squares is None:
            super().add(block, values.square() if self.config.variant == "squared" else values)
            return
        squares = values.square()  # made before either sum changes: where memory runs out, none of the rows are taken
        super().add(block, values)
        ops.add_rows_(self.squares, block.image, squares)

    def attributions(self) -> Tensor:
        mean = super().attributions()
        if self.squares is None:
            return mean
        # The difference of two rounded numbers can fall below 0, which a variance cannot.
        return (self.squares / self.samples - mean.square()).clamp_min(0.0)
