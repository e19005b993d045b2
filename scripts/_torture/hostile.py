"""Pictures that mean harm, made here where no folder of them is given."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def make(folder: Path, count: int, seed: int) -> list[Path]:
    """`count` files in a new folder: the known kinds first, then pictures cut off or with bytes changed."""
    folder.mkdir()
    rng = random.Random(seed)
    noise = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8))
    kinds = {kind: _encoded(noise, kind) for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP")}
    made: list[Path] = []
    for name, fixed in _fixed(kinds["PNG"]).items():
        (folder / name).write_bytes(fixed)
        made.append(folder / name)
    os.mkfifo(folder / "pipe.png")
    (folder / "dangling.png").symlink_to("nowhere.png")
    made += [folder / "pipe.png", folder / "dangling.png"]
    while len(made) < count:
        kind = rng.choice(list(kinds))
        data = bytearray(kinds[kind])
        if rng.random() < 0.5:
            del data[rng.randrange(1, len(data)) :]
        else:
            for _ in range(rng.randint(1, 20)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        made.append(folder / f"{len(made)}.{kind.lower()}")
        made[-1].write_bytes(data)
    return made[:count]


def _encoded(picture: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind)
    return stream.getvalue()


def _fixed(png: bytes) -> dict[str, bytes]:
    return {
        "vast.png": _png(60_000, 60_000),
        "bomb.png": _png(9_000, 11_000, zlib.compress(bytes(11_000 * (9_000 * 3 + 1)), 9)),
        "empty.png": b"",
        "text.png": b"no picture at all\n",
        "script.eps": b"%!PS\n/x { x } def x\n",
        "tail.png": png[: len(png) // 2],
        "zeros.jpg": bytes(100_000),
    }


def _png(width: int, height: int, data: bytes = b"") -> bytes:
    """A colour PNG of this size by its header, with these packed pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
