"""`load_model`: from the short text of the command line to a `Model`."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch

from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.models.device import find_device
from fastxai.models.model import Model
from fastxai.models.sources import FORMS, SOURCES, Options


def load_model(
    spec: str,
    weights: str | Path | None = None,
    device: str | torch.device = "auto",
    precision: str = "auto",
    compile: bool | str = "auto",
    fold: bool = True,
) -> Model:
    """The model that `spec` names.

    spec: `embedded` (also `embedded:lite1`, `embedded:lite2`), `torchvision:NAME`, `timm:NAME`, `hf:NAME` (or a local
    folder), `package.module:factory`. weights: a file (safetensors or a state dict, read without running code from
    it), "random" for a fixed random initialisation, or None for the source's own pretrained weights. The others are
    those of `Model`.
    Raises `ArgumentError` for what cannot be, `CannotRun` where a download is impossible (the message names the file
    and its place), `MissingExtra` for an optional part that is not installed.
    """
    if not isinstance(spec, str):
        raise ArgumentTypeError(f"model must be {FORMS}, got {spec!r}")
    kind, colon, name = spec.partition(":")
    if not kind or (colon and not name) or (not colon and kind != "embedded"):
        raise ArgumentError(f"model must be {FORMS}, got {spec!r}")
    find_device(device)  # before the work of loading
    options = Options(
        weights=None if weights is None else str(weights),
        device=device,
        precision=precision,
        compile=compile,
        fold=fold,
    )
    source = importlib.import_module(f"fastxai.models.sources.{SOURCES[kind]}" if kind in SOURCES else _FACTORY)
    model: Model = source.load(name if kind in SOURCES else spec, options)
    return model


_FACTORY = "fastxai.models.sources.factory"
