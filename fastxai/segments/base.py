"""What a segmenter is, and how one is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxai.config import Call, Config, Registry
from fastxai.errors import ArgumentTypeError

SEGMENTERS = Registry(
    "segments",
    {
        "quickshift": "fastxai.segments.segmenters:Quickshift",
        "slic": "fastxai.segments.segmenters:Slic",
        "felzenszwalb": "fastxai.segments.segmenters:Felzenszwalb",
        "grid": "fastxai.segments.segmenters:Grid",
        "labels": "fastxai.segments.ready:Labels",
    },
)


@dataclass(frozen=True)
class Segmenter(Config):
    """Base of segmenters: a pure function of one picture, so that nothing depends on the batch."""

    @property
    def key(self) -> str:
        """The configuration as stable text: what label maps are filed under."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    def settle(self, ids: Sequence[str], size: tuple[int, int]) -> Segmenter:
        """The segmenter checked against pictures of `size` (H, W), with what it needs laid to the ids of the source.

        Raises `ArgumentError` before any work starts.
        """
        return self

    def label(self, picture: NDArray[np.uint8], image_id: str) -> NDArray[np.integer[Any]]:
        """Labels [H, W] of a picture uint8 [H, W, 3]: any integers, one per superpixel.

        Raises `ImageError` where this picture cannot be segmented.
        """
        raise NotImplementedError


def as_segmenter(value: Any) -> Segmenter:
    """A segmenter from what a user may give: a configuration, its name or text, or ready label maps.

    Raises `ArgumentError` for unknown names and options, `ArgumentTypeError` for anything else.
    """
    if isinstance(value, Segmenter):
        return value
    if isinstance(value, str):
        found = SEGMENTERS.parse(value)
    elif isinstance(value, Call):
        found = SEGMENTERS.build(value.name, value.options)
    elif isinstance(value, dict) and "method" in value:
        found = SEGMENTERS.from_dict(value)
    elif hasattr(value, "ndim") or isinstance(value, (dict, list)):
        from fastxai.segments.ready import Labels

        found = Labels(value)
    else:
        raise ArgumentTypeError(f"segments must be a segmenter, its name or label maps, got {type(value).__name__}")
    assert isinstance(found, Segmenter)
    return found
