"""Encoded bytes -> a picture in a model's geometry, in processes of their own.

    load = Load(DecodeLimits(seconds=30))
    found = load.decode(data, model.preprocess)    # Decoded: size, pixels uint8 [C, H, W], crop

Decoders are C libraries, and pictures come from anywhere: one that crashes, hangs or asks for all memory takes one
decoder process with it, and is one `ImageError`. Nothing here loads torch, which would cost every process seconds and
hundreds of megabytes.
"""

from __future__ import annotations

from fastxai.decoding.decode import decode, from_array, upright
from fastxai.decoding.decoders import Load
from fastxai.decoding.geometry import Placed, apply_geometry
from fastxai.decoding.limits import LIMITS, MAX_PIXELS, DecodeLimits
from fastxai.decoding.messages import Decoded

__all__ = [
    "LIMITS",
    "MAX_PIXELS",
    "DecodeLimits",
    "Decoded",
    "Load",
    "Placed",
    "apply_geometry",
    "decode",
    "from_array",
    "upright",
]
