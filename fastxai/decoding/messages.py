"""What passes between this program and a decoder process: one request, one reply, through pipes.

A message is two lengths, a few values as JSON, and bytes. Never a pickle: a picture that has taken a decoder over must
not be able to run code here, so a reply is checked like any other input.
"""

from __future__ import annotations

import json
import operator
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, TypeGuard

import numpy as np

from fastxai.decoding.decode import REASON_LENGTH, printable
from fastxai.decoding.geometry import Placed
from fastxai.decoding.limits import DecodeLimits
from fastxai.errors import ImageError
from fastxai.types import Preprocess

READY = {"ready": True}  # the first message of a decoder

_LENGTHS = struct.Struct("<QQ")  # bytes of JSON, bytes that follow it
_FIELDS = 1 << 16  # most bytes of JSON


@dataclass(frozen=True)
class Decoded:
    """size: height, width of the upright original; placed: what the model sees of it."""

    size: tuple[int, int]
    placed: Placed


def send(file: IO[bytes], fields: Mapping[str, Any], data: bytes = b"") -> None:
    """Write one message to an unbuffered pipe. Raises `OSError` where nobody reads it."""
    text = json.dumps(fields, default=operator.index).encode()  # NumPy's integers
    for part in (_LENGTHS.pack(len(text), len(data)) + text, data):
        rest = memoryview(part)
        while rest:
            rest = rest[file.write(rest) :]


def receive(file: IO[bytes], most: int | None = None) -> tuple[dict[str, Any], bytes]:
    """Read one message, of at most `most` bytes beside its values.

    Raises `EOFError` where the other side has gone, `ValueError` for anything that is not a message.
    """
    length, rest = _LENGTHS.unpack(_exactly(file, _LENGTHS.size))
    if length > _FIELDS or (most is not None and rest > most):
        raise ValueError(f"message of {length} and {rest} bytes")
    fields = json.loads(_exactly(file, length))
    if not isinstance(fields, dict):
        raise ValueError("message without fields")
    return fields, _exactly(file, rest)


def _exactly(file: IO[bytes], count: int) -> bytes:
    parts = []
    while count:
        part = file.read(count)
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def request(preprocess: Preprocess, limits: DecodeLimits) -> dict[str, Any]:
    """The values that go with a picture's bytes: its geometry (not its normalisation) and its limits."""
    return {
        "size": preprocess.size,
        "resize": preprocess.resize,
        "interpolation": preprocess.interpolation,
        "channels": preprocess.channels,
        "seconds": limits.seconds,
        "pixels": limits.pixels,
        "memory": limits.memory,
    }


def read_request(fields: Mapping[str, Any]) -> tuple[Preprocess, DecodeLimits]:
    """What `request` described, with zeros for the normalisation."""
    resize, none = fields["resize"], (0.0,) * fields["channels"]
    if isinstance(resize, list):
        resize = tuple(resize)
    preprocess = Preprocess(tuple(fields["size"]), resize, fields["interpolation"], none, none)
    return preprocess, DecodeLimits(fields["seconds"], fields["pixels"], fields["memory"])


def reply(decoded: Decoded) -> tuple[dict[str, Any], bytes]:
    """`decoded` as a message; a picture that failed is {"error": reason} instead."""
    fields = {"size": list(decoded.size), "crop": decoded.placed.crop.tolist()}  # float32 passes through JSON unchanged
    return fields, decoded.placed.pixels.tobytes()


def read_reply(fields: Mapping[str, Any], data: bytes, preprocess: Preprocess) -> Decoded:
    """What `reply` described; the `ImageError` it holds instead is raised, `ValueError` where it makes no sense."""
    if "error" in fields:
        raise ImageError(printable(str(fields["error"]))[:REASON_LENGTH])
    size, crop = fields.get("size"), fields.get("crop")
    if not _numbers(size, 2, int) or not _numbers(crop, 4, float):
        raise ValueError("reply without size and crop")
    pixels = np.frombuffer(data, np.uint8).reshape(preprocess.channels, *preprocess.size)
    return Decoded((size[0], size[1]), Placed(pixels, np.array(crop, np.float32)))


def _numbers(values: Any, count: int, kind: type[int] | type[float]) -> TypeGuard[list[Any]]:
    """Whether `values` are `count` numbers that fit into 32 bits."""
    if not isinstance(values, list) or len(values) != count:
        return False
    return all(type(value) is kind and -(2.0**31) < value < 2.0**31 for value in values)
