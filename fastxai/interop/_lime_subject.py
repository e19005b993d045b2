"""What `LimeImageExplainer` perturbs, and how it is read: by the engine, or by a function of pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fastxai import ops, sampling
from fastxai.decoding import apply_geometry
from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.interop._kept import KeptModel
from fastxai.models import Model, Scores, Session

Picture = NDArray[Any]  # [H, W, C]
Labels = NDArray[np.integer[Any]]  # [H, W], 0..S-1


class Subject(Protocol):
    """A picture and a classifier."""

    image: Picture

    def scores(self, labels: Labels, kept: NDArray[np.bool_], hide_color: Any, batch_size: int) -> NDArray[Any]:
        """What the classifier says of copies that keep the segments kept [n, S]: [n, classes]."""


def make_subject(image: Any, classifier: Any, kept_model: KeptModel) -> Subject:
    """The picture as it will be perturbed, checked."""
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3) or 0 in image.shape:
        raise ArgumentTypeError(f"image must be an array [H, W, 3] or [H, W], got {_form(image)}")
    if image.ndim == 2:
        image = np.stack([image] * 3, axis=-1)
    if isinstance(classifier, Model):
        if image.dtype != np.uint8 or image.shape[2] != 3:
            raise ArgumentError(f"image must be uint8 [H, W, 3] for a fastxai.Model, got {_form(image)}")
        return Read(_placed(image, classifier), kept_model)
    if kept_model.module is not None:
        if not np.issubdtype(image.dtype, np.floating):
            raise ArgumentError(
                f"image must be float model input [H, W, C] for a bare nn.Module, got {_form(image)}: "
                "wrap the module in a fastxai.Model with its preprocessing"
            )
        return Read(image, kept_model)
    return Called(image, classifier)


class Read:
    """A picture that the engine reads: uint8 pixels, or float model input."""

    def __init__(self, image: Picture, model: KeptModel) -> None:
        self.image, self.model = image, model

    def scores(self, labels: Labels, kept: NDArray[np.bool_], hide_color: Any, batch_size: int) -> NDArray[Any]:
        fill = fill_of(self.image, labels, hide_color)
        picture = torch.from_numpy(np.ascontiguousarray(self.image.transpose(2, 0, 1)))[None]
        picture = picture if picture.dtype == torch.uint8 else picture.float()
        own = torch.from_numpy(labels.astype(np.int32))[None]
        words = sampling.pack(torch.from_numpy(kept))

        def inputs(session: Session, start: int, stop: int) -> Tensor:
            preprocess, device = session.model.preprocess, session.device
            return ops.compose_rows(
                picture.to(device),
                own.to(device),
                words[start:stop].to(device),
                torch.zeros(stop - start, dtype=torch.int64),
                torch.from_numpy(fill).to(device),
                mean=preprocess.mean,
                std=preprocess.std,
                dtype=session.dtype,
            )

        def targets(classes: int) -> Tensor:
            return torch.arange(classes).expand(len(kept), classes)

        found: NDArray[Any] = (
            self.model.read(Scores(), picture.float(), inputs, targets, len(kept)).scores.cpu().numpy()
        )
        return found


class Called:
    """A picture whose copies are handed to a function, [n, H, W, C] -> [n, classes], a batch at a time."""

    def __init__(self, image: Picture, classify: Callable[[Picture], Any]) -> None:
        self.image, self.classify = image, classify

    def scores(self, labels: Labels, kept: NDArray[np.bool_], hide_color: Any, batch_size: int) -> NDArray[Any]:
        fill = fill_of(self.image, labels, hide_color)
        hidden = self.image.copy()
        hidden[:] = fill if fill.ndim == 1 else fill[0][labels]
        found: list[Any] = []
        for start in range(0, len(kept), batch_size):
            shown = kept[start : start + batch_size][:, labels]
            found.extend(self.classify(np.where(shown[..., None], self.image, hidden)))
        scores = np.array(found)
        if scores.ndim != 2 or len(scores) != len(kept):
            raise ArgumentError(f"classifier_fn must give [n, classes] for n pictures, got {list(scores.shape)}")
        return scores


def fill_of(image: Picture, labels: Labels, hide_color: Any) -> NDArray[np.float32]:
    """What hidden segments show: [C] for one colour, [1, S, C] for the mean of each, cut to whole numbers for uint8."""
    whole = image.dtype == np.uint8
    if hide_color is None:
        planes = image if whole else image.astype(np.float32)
        picture = torch.from_numpy(np.ascontiguousarray(planes.transpose(2, 0, 1)))[None]
        own = torch.from_numpy(labels.astype(np.int32))[None]
        means: NDArray[np.float32] = ops.segment_mean(picture, own, int(labels.max()) + 1, truncate=whole).numpy()
        return means
    colour = np.asarray(hide_color, dtype=np.float32)
    if colour.shape not in ((), (image.shape[2],)) or (whole and not bool(((colour >= 0) & (colour <= 255)).all())):
        scale = " from 0 to 255" if whole else ""
        raise ArgumentError(f"hide_color must be None, a number{scale} or one for each channel, got {hide_color!r}")
    return np.broadcast_to(np.trunc(colour) if whole else colour, (image.shape[2],)).copy()


def _placed(image: Picture, model: Model) -> Picture:
    """uint8 [H, W, 3] as the model sees it: resized and cropped, unless it has the model's size."""
    pre = model.preprocess
    if pre.channels != 3:
        raise ArgumentError(f"classifier_fn must be a model of three channels, got one of {pre.channels}")
    if image.shape[:2] == pre.size:
        return image
    return np.ascontiguousarray(apply_geometry(Image.fromarray(image), pre).pixels.transpose(1, 2, 0))


def _form(image: Any) -> str:
    return f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
