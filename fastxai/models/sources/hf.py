"""`hf:NAME`: an image classifier of transformers, from the Hugging Face hub or a local folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastxai.errors import ArgumentError, CannotRun, MissingExtra
from fastxai.models.model import Model
from fastxai.models.sources import Options
from fastxai.models.sources.hub import fetch_from_hf
from fastxai.models.weights import fixed_random_weights, load_weights, read_weights
from fastxai.types import Preprocess

_RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by PIL's numbers
_CROP_PCT = ("ConvNext", "PoolFormer")  # processors that shrink the crop instead of naming one


def load(name: str, options: Options) -> Model:
    """`name`: a repository such as microsoft/resnet-50, or a folder with config.json and preprocessor_config.json."""
    try:
        import transformers
    except ImportError as error:
        raise MissingExtra("a model of transformers", "hf") from error
    label, folder = f"hf:{name}", Path(name).expanduser()
    if folder.is_dir():
        files = folder
        if not (files / "config.json").is_file():
            raise ArgumentError(f"hf model must be a folder with a config.json, got {name!r}")
    elif name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise ArgumentError(f"hf model must be a repository OWNER/NAME or an existing folder, got {name!r}")
    else:
        files = fetch_from_hf(name, ("config.json",), label).parent
        fetch_from_hf(name, ("preprocessor_config.json",), label)
        if options.weights is None:
            fetch_from_hf(name, ("model.safetensors", "pytorch_model.bin"), label)
    settings = files / "preprocessor_config.json"
    if not settings.is_file():
        raise CannotRun(f"{label} has no preprocessor_config.json: wrap the module in fastxai.Model with a Preprocess")
    preprocess = preprocess_of(json.loads(settings.read_text("utf-8")), label)

    try:
        config = transformers.AutoConfig.from_pretrained(files, local_files_only=True)
        if options.weights is None:
            with _without_progress_bars():
                module = transformers.AutoModelForImageClassification.from_pretrained(
                    files, config=config, local_files_only=True, dtype="float32"
                )
        else:
            with fixed_random_weights():
                module = transformers.AutoModelForImageClassification.from_config(config)
    except (ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ArgumentError(f"hf model must be an image classifier of transformers, got {name!r}: {reason}") from error
    except OSError as error:
        reason = " ".join(str(error).split())[:200]
        raise CannotRun(f"{label} cannot be loaded: {reason}") from error
    if options.file is not None:
        load_weights(module, read_weights(options.file), options.file)
    names = [str(config.id2label[i]) for i in range(int(config.num_labels))]
    output = "sigmoid" if config.problem_type == "multi_label_classification" else "softmax"
    return options.model(module, preprocess, label, classes=names, output=output)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


def preprocess_of(config: Mapping[str, Any], label: str) -> Preprocess:
    """An image processor's configuration as data; `CannotRun` for what the data cannot say."""
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    for option in ("do_flip_channel_order", "rescale_offset", "do_pad", "include_top"):
        if config.get(option):
            raise _unknown(label, f"{option} of its image processor")
    size = config.get("size", {})
    size = {"shortest_edge": size} if isinstance(size, int) and "crop_size" in config else size
    size = {"height": size, "width": size} if isinstance(size, int) else size
    crop = config.get("crop_size")
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    resize: int | tuple[int, int] | None
    if "shortest_edge" in size:
        resize = int(size["shortest_edge"])
    elif "height" in size and "width" in size:
        resize = (int(size["height"]), int(size["width"]))
    else:
        raise _unknown(label, f"the size {size!r} of its image processor")
    if not config.get("do_resize", True):
        resize = None

    if kind.startswith(_CROP_PCT):
        resize, shape = _crop_pct(kind, size, crop, config, label)
    elif config.get("do_center_crop") and crop is not None:
        shape = (int(crop["height"]), int(crop["width"]))
    elif isinstance(resize, tuple):
        shape = resize
    else:
        raise _unknown(label, "an image processor that crops to no fixed size")

    # (pixel * factor - mean) / std in terms of pixel / 255.
    factor = 255.0 * (float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0)
    normalise = config.get("do_normalize", True)
    mean, std = (config["image_mean"], config["image_std"]) if normalise else ([0.0] * 3, [1.0] * 3)
    return Preprocess(
        shape,
        resize,
        _RESAMPLE[int(config.get("resample", 2))],
        tuple(float(value) / factor for value in mean),
        tuple(float(value) / factor for value in std),
    )


def _crop_pct(
    kind: str, size: Mapping[str, Any], crop: Any, config: Mapping[str, Any], label: str
) -> tuple[int | tuple[int, int], tuple[int, int]]:
    """ConvNeXt: below 384, resize to edge / crop_pct and crop to edge, else resize exactly. PoolFormer: always crop."""
    share = float(config.get("crop_pct") or (0.875 if kind.startswith("ConvNext") else 0.9))
    if "shortest_edge" not in size:
        raise _unknown(label, f"the size {dict(size)!r} of its image processor")
    edge = int(size["shortest_edge"])
    if kind.startswith("ConvNext"):
        return (int(edge / share), (edge, edge)) if edge < 384 else ((edge, edge), (edge, edge))
    if crop is None:
        raise _unknown(label, "an image processor that crops to no fixed size")
    return int(edge / share), (int(crop["height"]), int(crop["width"]))


def _unknown(label: str, what: str) -> CannotRun:
    return CannotRun(f"{label} has {what}, which fastxai does not know: wrap the module in fastxai.Model")
