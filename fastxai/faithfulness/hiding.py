"""Hidden parts of pictures: what they show, which pixels belong together, and the copies that the model reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastxai.config import check_float
from fastxai.explainers import Batch
from fastxai.explainers.baselines import blurred
from fastxai.explainers.fills import checked_fill, fill_inputs
from fastxai.segments import Segmenter, as_segmenter
from fastxai.transfer import on_device

BLUR = "blur"
SIGMA = 10.0  # pixels of the blur, as that of the baselines of GradientSHAP


def checked(fill: Any, blur: Any) -> Any:
    """ "black", "mean" (each picture's own mean colour), "blur" or one number from 0 to 255 per channel."""
    check_float("blur", blur, 0, above=True)
    return fill if isinstance(fill, str) and fill == BLUR else checked_fill(fill)


def optional_segmenter(value: Any) -> Segmenter | None:
    """A segmenter, or None for single pixels."""
    return None if value is None else as_segmenter(value)


def fill_pictures(fill: Any, blur: float, batch: Batch) -> Tensor:
    """What hidden pixels show, in model-input units: float32 [B, C, H, W], or [B, C, 1, 1] where it is one colour."""
    if fill == BLUR:
        return torch.stack([blurred(picture, blur) for picture in batch.inputs])
    return fill_inputs(fill, batch)[:, :, None, None]


def hide(batch: Batch, fill: Tensor, hidden: Tensor, image: Tensor) -> Tensor:
    """Copies of pictures that show `fill` where `hidden`: model inputs [R, C, H, W] in `Batch.dtype`.

    fill as of `fill_pictures`; hidden bool [R, H, W] on the batch's device; image int64 [R] on the CPU.
    """
    if bool((image == image[0]).all()):  # as in most chunks: nothing has to be copied row by row
        place = int(image[0])
        pictures, shown = batch.inputs[place : place + 1], fill[place : place + 1]
    else:
        index = on_device(image, batch.inputs.device)
        pictures, shown = batch.inputs[index], fill[index]
    return torch.where(hidden.unsqueeze(1), shown, pictures).to(batch.dtype)


class Units:
    """The pixels of each picture in parts that are hidden together: single ones, or segments.

    labels int32 [B, H, W]; counts: parts of each picture.
    """

    def __init__(self, batch: Batch, segmenter: Segmenter | None) -> None:
        images, (height, width) = len(batch), batch.inputs.shape[-2:]
        self.single = segmenter is None
        if segmenter is None:
            pixels = torch.arange(height * width, dtype=torch.int32, device=batch.inputs.device)
            self.labels = pixels.reshape(1, height, width).expand(images, -1, -1)
            self.counts = [height * width] * images
        else:
            segments = batch.segments[segmenter.key]
            self.labels, self.counts = segments.labels, segments.counts.tolist()
        self._host = self.labels.cpu().numpy()

    def sums(self, image: int, maps: NDArray[np.float32]) -> NDArray[np.float64]:
        """The sum of each map of one picture, [..., H, W], over every unit: float64 [..., units].

        On the host and a map at a time, so that sums are the same in any batch and on any device.
        """
        count, flat = self.counts[image], maps.reshape(-1, self._host[image].size)
        if self.single:
            return maps.reshape(*maps.shape[:-2], count).astype(np.float64)
        labels = self._host[image].ravel()
        found = np.empty((len(flat), count))
        for place, one in enumerate(flat):
            found[place] = np.bincount(labels, one.astype(np.float64), count)
        return found.reshape(*maps.shape[:-2], count)

    def sizes(self, image: int) -> NDArray[np.int64]:
        """Pixels of every unit of one picture."""
        return np.bincount(self._host[image].ravel(), minlength=self.counts[image])

    def ranks(self, image: int, maps: NDArray[np.float32]) -> NDArray[np.int32]:
        """For every pixel of each map of one picture, how many units stand before its own: int32 [..., H, W].

        The unit with the highest mean comes first; ties go by number, which for pixels is raster order.
        """
        means = self.sums(image, maps) / np.maximum(self.sizes(image), 1)
        order = np.argsort(-means, axis=-1, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.broadcast_to(np.arange(order.shape[-1]), order.shape), axis=-1)
        return ranks[..., self._host[image]].astype(np.int32)
