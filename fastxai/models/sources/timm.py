"""`timm:NAME`: a classifier of timm with its data configuration."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import Any

from fastxai.errors import ArgumentError, CannotRun, MissingExtra
from fastxai.models.download import fetch_to_hub
from fastxai.models.imagenet import CLASSES, imagenet_classes
from fastxai.models.model import Model
from fastxai.models.sources import Options
from fastxai.models.sources.hub import fetch_from_hf
from fastxai.models.weights import fixed_random_weights, load_weights, read_weights
from fastxai.types import Preprocess


def load(name: str, options: Options) -> Model:
    """The classifier called `name` (with or without a `.tag` of pretrained weights)."""
    try:
        import timm
        from timm.data import resolve_model_data_config
    except ImportError as error:
        raise MissingExtra("a timm model", "models") from error
    if not timm.is_model(name.split(".")[0]):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f" (did you mean {', '.join(close)}?)" if close else ""
        raise ArgumentError(f"timm model must be one of timm.list_models(), got {name!r}{hint}")
    try:
        with fixed_random_weights():
            module: Any = timm.create_model(name, pretrained=False)
    except (RuntimeError, ValueError) as error:
        tags = timm.list_pretrained(f"{name.split('.')[0]}.*")
        raise ArgumentError(f"timm model must be one of {', '.join(tags) or 'none'}, got {name!r}") from error
    config = dict(module.pretrained_cfg)
    if options.file is not None:
        load_weights(module, read_weights(options.file), options.file)
    elif not options.random:
        # timm itself reads the file, for it knows how old checkpoints map onto today's modules.
        file = _pretrained_file(name, config)
        with fixed_random_weights():
            module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(file)})
    return options.model(
        module,
        preprocess_of(resolve_model_data_config(module), name),
        f"timm:{name}",
        **_classes(int(module.num_classes)),
    )


def preprocess_of(config: dict[str, Any], name: str) -> Preprocess:
    """timm's evaluation transform as data: resize to floor(size / crop_pct), then a centre crop."""
    _, height, width = config["input_size"]
    mode = config.get("crop_mode") or "center"
    scaled = tuple(math.floor(side / (config.get("crop_pct") or 0.875)) for side in (height, width))
    if mode not in ("center", "squash") or (mode == "center" and scaled[0] != scaled[1]):
        raise CannotRun(f"timm:{name} crops in a way that fastxai does not know ({mode}): wrap it in fastxai.Model")
    resize: int | tuple[int, int] = scaled[0] if mode == "center" else (scaled[0], scaled[1])
    channels = int(config["input_size"][0])
    mean, std = tuple(config["mean"]), tuple(config["std"])
    if channels != len(mean):
        raise CannotRun(f"timm:{name} takes {channels} channels and normalises {len(mean)}: wrap it in fastxai.Model")
    return Preprocess((height, width), resize, str(config["interpolation"]), mean, std)


def _pretrained_file(name: str, config: dict[str, Any]) -> Path:
    repository, url = config.get("hf_hub_id"), config.get("url")
    if repository:
        wanted = config.get("hf_hub_filename") or "model.safetensors"
        return fetch_from_hf(str(repository), (str(wanted), "pytorch_model.bin"), f"timm:{name}")
    if url:
        return fetch_to_hub(str(url), f"timm:{name}")
    raise ArgumentError(f"weights must be given for timm:{name}, which has no pretrained ones, got None")


def _classes(count: int) -> dict[str, Any]:
    found = imagenet_classes() if count == CLASSES else None
    return {} if found is None else {"classes": found[0], "class_keys": found[1]}
