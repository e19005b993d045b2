"""`load_model`: from the short text of the command line to a `Model`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fastxai.errors import ArgumentError, ArgumentTypeError, CannotRun
from fastxai.models.device import find_device
from fastxai.models.model import Model
from fastxai.models.sources import FORMS, SOURCES, Options
from fastxai.plugins import MODELS, Plugin, find_plugin, in_one_line


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
    folder), `package.module:factory`, or `NAME:...` of a source that another package adds. weights: a file (safetensors
    or a state dict, read without running code from it), "random" for a fixed random initialisation, or None for the
    source's own pretrained weights. The others are those of `Model`.
    Raises `ArgumentError` for what cannot be, `CannotRun` where a download is impossible (the message names the file
    and its place), `MissingExtra` for an optional part that is not installed.
    """
    if not isinstance(spec, str):
        raise ArgumentTypeError(f"model must be {FORMS}, got {spec!r}")
    kind, colon, name = spec.partition(":")
    elsewhere = find_source(kind) if kind and kind not in SOURCES else None
    if not kind or (colon and not name) or (not colon and kind != "embedded" and elsewhere is None):
        raise ArgumentError(f"model must be {FORMS}, got {spec!r}")
    find_device(device)  # before the work of loading
    options = Options(
        weights=None if weights is None else str(weights),
        device=device,
        precision=precision,
        compile=compile,
        fold=fold,
    )
    if elsewhere is not None:
        return _load_elsewhere(*elsewhere, name, options)
    source = importlib.import_module(f"fastxai.models.sources.{SOURCES[kind]}" if kind in SOURCES else _FACTORY)
    model: Model = source.load(name if kind in SOURCES else spec, options)
    return model


def find_source(kind: str) -> tuple[Plugin, Callable[[str, Options], Any]] | None:
    """The source that another package adds as `kind`, and its function; None where there is none.

    Raises `CannotRun` for one that cannot be used.
    """
    plugin = find_plugin(MODELS, kind)
    if plugin is None:
        return None
    load = plugin.load()
    if not callable(load):
        raise CannotRun(f"{plugin} cannot be used: {plugin.value} is no function")
    return plugin, load


def _load_elsewhere(plugin: Plugin, load: Callable[[str, Options], Any], name: str, options: Options) -> Model:
    """The model of another package, with whatever goes wrong there in one line."""
    try:
        model = load(name, options)
    except (ArgumentError, CannotRun):
        raise
    except Exception as error:
        raise CannotRun(f"{plugin} cannot load {name!r}: {in_one_line(error)}") from error
    if not isinstance(model, Model):
        raise CannotRun(f"{plugin} cannot be used: it gives a {type(model).__name__}, no fastxai Model")
    return model


_FACTORY = "fastxai.models.sources.factory"
