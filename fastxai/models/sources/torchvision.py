"""`torchvision:NAME`: a classifier of torchvision with its weights' transforms as data."""

from __future__ import annotations

import difflib
import re
from typing import Any

from torch import Tensor, nn

from fastxai.errors import ArgumentError
from fastxai.models.download import fetch_to_hub
from fastxai.models.imagenet import CLASSES, imagenet_classes
from fastxai.models.model import Model
from fastxai.models.sources import Options
from fastxai.models.weights import fixed_random_weights, load_weights, read_weights
from fastxai.types import Preprocess

# Their constructors draw weights from a truncated normal distribution (minutes, and a warning) unless told not to,
# and their pretrained weights expect inputs transformed inside.
_GOOGLE = {"inception_v3", "googlenet"}
# The published DenseNet files are older than the names of today.
_OLD_DENSENET = re.compile(
    r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.(?:weight|bias|running_mean|running_var))$"
)


def load(name: str, options: Options) -> Model:
    """The classifier called `name`, with the default weights' transforms and categories."""
    from torchvision import models  # slow to import, and only needed here
    from torchvision.transforms._presets import ImageClassification

    known = models.list_models(module=models)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f" (did you mean {', '.join(close)}?)" if close else ""
        raise ArgumentError(f"torchvision model must be one of torchvision.models.list_models(), got {name!r}{hint}")
    weights: Any = models.get_model_weights(name).DEFAULT
    transforms = weights.transforms()
    if not isinstance(transforms, ImageClassification):
        raise ArgumentError(f"torchvision model must be an image classifier, got {name!r}")

    more: dict[str, Any] = {"init_weights": False, "transform_input": True} if name in _GOOGLE else {}
    if options.random:
        with fixed_random_weights():
            module: nn.Module = models.get_model(name, weights=None, **more)
    else:
        file = options.file or fetch_to_hub(weights.url, f"torchvision:{name}")
        state = _today(read_weights(file))
        with fixed_random_weights():  # they are replaced, but drawing them must not move torch's generator
            module = models.get_model(name, weights=None, **more)
        load_weights(module, state, str(file))

    preprocess = Preprocess(
        size=(_one(transforms.crop_size), _one(transforms.crop_size)),
        resize=_one(transforms.resize_size),
        interpolation=str(transforms.interpolation.value),
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )
    categories = tuple(weights.meta["categories"])
    found = imagenet_classes() if len(categories) == CLASSES else None
    keys = None if found is None else found[1]
    return options.model(module, preprocess, f"torchvision:{name}", classes=categories, class_keys=keys)


def _today(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {_OLD_DENSENET.sub(r"\1\2", name): value for name, value in state.items()}


def _one(sizes: list[int]) -> int:
    (size,) = sizes
    return int(size)
