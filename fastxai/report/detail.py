"""What the page holds of one image: a thumbnail, and the picture with every method's map for its large view."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastxai.report import encode, pictures
from fastxai.report.comparison import on_segments
from fastxai.results import Found, MethodResult

SEGMENTS, SIGNED, POSITIVE = "segments", "signed", "positive"  # how the page draws a method
THUMBNAIL = 144  # pixels of the longer side
_THUMBNAIL_QUALITY = 68


@dataclass(frozen=True)
class Level:
    """How fine pictures and maps are kept: pixels of the longer side at most, and WebP's quality."""

    side: int
    quality: int


LEVELS = (Level(512, 84), Level(320, 80), Level(224, 78), Level(160, 74), Level(112, 70))  # the finest that fits


def kind(result: MethodResult) -> str:
    """How the page draws a method: weights of superpixels, a signed map, or a map in [0, 1]."""
    if on_segments(result):
        return SEGMENTS
    return POSITIVE if "native" in result.data else SIGNED


def thumbnail(pixels: Tensor) -> str:
    """A picture uint8 [C, H, W] as a small WebP."""
    return encode.webp(encode.shrunk(_bytes(pixels), THUMBNAIL), _THUMBNAIL_QUALITY)


def detail(found: Found, place: int, target: int, masks: Mapping[str, Tensor], level: Level) -> dict[str, Any]:
    """The picture and all maps of one target, as plain data.

    masks: bool [H, W] by method, for the view of where two methods agree. Methods whose map is not finite are None.
    """
    shown: list[Tensor] = []  # distinct label maps: methods on the same superpixels share one
    maps = [_map(found[name][place], target, shown, level) for name in found]
    pairs = zip(found.predictions[place].tolist(), found.probabilities[place].tolist(), strict=True)
    return {
        "original": [int(side) for side in found.sizes[place]],
        "digest": found.digests[place],
        "predictions": [[index, round(share, 4)] for index, share in pairs if index >= 0],
        "picture": None if found.images is None else _picture(found.images[place], level),
        "labels": [_plane(encode.thinned(labels.numpy(), level.side), encode.labels) for labels in shown],
        "maps": maps,
        "masks": [
            _plane(encode.thinned(masks[name].numpy(), level.side), encode.bits) if name in masks else None
            for name in found
        ],
    }


def _map(result: MethodResult, target: int, shown: list[Tensor], level: Level) -> dict[str, Any] | None:
    values = result.maps[target].float()
    if not bool(values.isfinite().all()):
        return None
    drawn = kind(result)
    if drawn == SEGMENTS:
        return _weights(result, target, shown)
    if drawn == POSITIVE:
        return {"map": _grey(values.clamp(0, 1), level), "limit": 1.0}
    limit = pictures.limit_of(values)
    share = (values / limit).clamp(-1, 1) if limit > 0 else torch.zeros_like(values)
    return {"map": _grey((share + 1) / 2, level), "limit": _short(limit)}


def _weights(result: MethodResult, target: int, shown: list[Tensor]) -> dict[str, Any]:
    assert result.segments is not None
    place = next((i for i, labels in enumerate(shown) if torch.equal(labels, result.segments)), len(shown))
    if place == len(shown):
        shown.append(result.segments)
    count = int(result.counts) if result.counts is not None else int(result.segments.max()) + 1
    weights = [_short(value) or 0.0 for value in result.weights[target, :count].tolist()]
    found: dict[str, Any] = {"labels": place, "weights": weights, "limit": max(abs(value) for value in weights)}
    if "score" in result.data:
        found["score"] = _short(float(result.score[target]))
    return found


def _picture(pixels: Tensor, level: Level) -> str:
    return encode.webp(encode.shrunk(_bytes(pixels), level.side), level.quality)


def _bytes(pixels: Tensor) -> np.ndarray:
    """uint8 [C, H, W] as RGB [H, W, 3]."""
    return _eight_bits(pictures.rgb(pixels))


def _grey(shares: Tensor, level: Level) -> str:
    """A map [H, W] in [0, 1] at eight bits."""
    return encode.webp(encode.shrunk(_eight_bits(shares.numpy()), level.side), level.quality)


def _eight_bits(values: np.ndarray) -> np.ndarray:
    return (values * 255 + 0.5).astype(np.uint8)


def _plane(values: np.ndarray, packed: Any) -> dict[str, Any]:
    return {"size": list(values.shape), "data": packed(values)}


def _short(value: float) -> float | None:
    """Five digits: as exact as a screen can show. None for what is no number."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
