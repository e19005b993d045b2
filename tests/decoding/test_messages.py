"""Messages come back as they were sent, and a reply is believed only as far as it makes sense."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
import pytest

from fastxai.decoding import DecodeLimits, Placed
from fastxai.decoding.messages import Decoded, read_reply, read_request, receive, reply, request, send
from fastxai.errors import ImageError
from fastxai.types import Preprocess

PREPROCESS = Preprocess((2, 3), 4, "bicubic", (0.5,) * 3, (0.5,) * 3)
PIXELS = bytes(range(18))


class Slow(io.BytesIO):
    """Like a pipe: takes and gives at most seven bytes at a time."""

    def write(self, data: Any) -> int:
        return super().write(bytes(data)[:7])

    def read(self, count: int | None = -1) -> bytes:
        return super().read(min(count or 0, 7))


def message(fields: Any, data: bytes = b"") -> io.BytesIO:
    text = json.dumps(fields).encode()
    return io.BytesIO(struct.pack("<QQ", len(text), len(data)) + text + data)


def test_messages_pass_whole() -> None:
    file = Slow()
    sent: list[tuple[dict[str, Any], bytes]] = [({"a": [1, None, "ü\n"]}, b""), ({}, bytes(1000)), ({"b": 0.1}, b"x")]
    for fields, data in sent:
        send(file, fields, data)
    whole = file.getvalue()
    file.seek(0)
    assert [receive(file) for _ in sent] == sent
    for end in range(len(whole)):
        cut = Slow(whole[:end])
        with pytest.raises(EOFError):
            [receive(cut) for _ in sent]


@pytest.mark.parametrize("resize", [None, 7, (5, 6)])
def test_requests_come_back(resize: int | tuple[int, int] | None) -> None:
    limits = DecodeLimits(0.5, 77, 300 << 20)
    fields = json.loads(json.dumps(request(Preprocess((2, 3), resize, "hamming", (0.5,), (0.5,)), limits)))
    assert read_request(fields) == (Preprocess((2, 3), resize, "hamming", (0.0,), (0.0,)), limits)


def test_replies_come_back() -> None:
    crop = np.array([-1 / 3, 0.1, 7e7 / 3, 1e-9], np.float32)
    sent = Decoded((70_000, 1), Placed(np.frombuffer(PIXELS, np.uint8).reshape(3, 2, 3), crop))
    file = io.BytesIO()
    send(file, *reply(sent))
    file.seek(0)
    found = read_reply(*receive(file, most=18), PREPROCESS)
    assert found.size == sent.size
    np.testing.assert_array_equal(found.placed.pixels, sent.placed.pixels)
    np.testing.assert_array_equal(found.placed.crop, crop)
    assert found.placed.crop.dtype == np.float32


def test_a_reason_becomes_one_printable_line() -> None:
    with pytest.raises(ImageError) as caught:
        read_reply({"error": "a\n\x1b[31m\ud800b" + "x" * 1000}, b"", PREPROCESS)
    assert str(caught.value).startswith("a [31m bxxx")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) == 200


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ({}, PIXELS),
        ({"size": [1, 2]}, PIXELS),
        ({"size": [1, 2], "crop": [0.0] * 4}, PIXELS[:-1]),
        ({"size": [1, 2], "crop": [0.0] * 4}, b""),
        ({"size": [1, 2], "crop": [0.0] * 3}, PIXELS),
        ({"size": [1, 2], "crop": [0.0, 0.0, 0.0, 1e300]}, PIXELS),
        ({"size": [1, 2], "crop": [0.0, 0.0, 0.0, float("nan")]}, PIXELS),
        ({"size": [1, 2], "crop": [0.0, 0.0, 0.0, "0"]}, PIXELS),
        ({"size": [1, 1 << 31], "crop": [0.0] * 4}, PIXELS),
        ({"size": [1, 2.0], "crop": [0.0] * 4}, PIXELS),
        ({"size": [True, 2], "crop": [0.0] * 4}, PIXELS),
        ({"size": 7, "crop": [0.0] * 4}, PIXELS),
        ({"size": None, "crop": {}}, PIXELS),
    ],
)
def test_a_reply_that_makes_no_sense_is_refused(fields: dict[str, Any], data: bytes) -> None:
    with pytest.raises(ValueError):
        read_reply(fields, data, PREPROCESS)


@pytest.mark.parametrize(
    "file",
    [
        message([1, 2]),
        message({}, bytes(19)),
        message({"a": "x" * (1 << 16)}),
        io.BytesIO(b"\xff" * 100),
        io.BytesIO(struct.pack("<QQ", 2, 0) + b"{]"),
        io.BytesIO(struct.pack("<QQ", 2, 0) + b"\xff\xfe"),
    ],
)
def test_what_is_no_message_is_refused_unread(file: io.BytesIO) -> None:
    with pytest.raises(ValueError):
        receive(file, most=18)
