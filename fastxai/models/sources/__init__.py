"""Where models come from: one file a source, each with `load(name, options) -> Model`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fastxai.models.model import Model
from fastxai.types import Preprocess

FORMS = "embedded[:lite1|:lite2], torchvision:NAME, timm:NAME, hf:NAME or package.module:factory"
SOURCES = {"embedded": "embedded", "torchvision": "torchvision", "timm": "timm", "hf": "hf"}


@dataclass(frozen=True)
class Options:
    """What `load_model` was given besides the spec. weights: a file, "random", or None for the source's own."""

    weights: str | None = None
    device: str | torch.device = "auto"
    precision: str = "auto"
    compile: bool | str = "auto"
    fold: bool = True

    @property
    def file(self) -> str | None:
        """The weights file, if one was given."""
        return None if self.weights == "random" else self.weights

    @property
    def random(self) -> bool:
        return self.weights == "random"

    def model(self, module: nn.Module, preprocess: Preprocess, name: str, **more: Any) -> Model:
        """A `Model` with these options."""
        return Model(
            module,
            preprocess,
            name=name,
            device=self.device,
            precision=self.precision,
            compile=self.compile,
            fold=self.fold,
            **more,
        )


__all__ = ["FORMS", "SOURCES", "Options"]
