"""Pools of decoder processes, files that do harm in them, and what tells whether they are still there."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastxai.decoding import Load, apply_geometry, decode, decoders
from fastxai.decoding.decoders import Decoder, Decoders
from fastxai.errors import ImageError
from fastxai.types import Preprocess

PREPROCESS = Preprocess((8, 6), 9, "bicubic", (0.5,) * 3, (0.5,) * 3)

# A reader for files that start with TRAP, which runs the Python code in the rest of them inside of the decoder.
TRAP = """
from PIL import Image, ImageFile
class Trap(ImageFile.ImageFile):
    format = "TRAP"
    def _open(self):
        exec(self.fp.read()[4:], {})
Image.register_open("TRAP", Trap, lambda prefix: prefix.startswith(b"TRAP"))
main()
"""


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def noise(seed: int, width: int = 40, height: int = 30) -> bytes:
    return encoded(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)))


@pytest.fixture
def pool() -> Iterator[Decoders]:
    pool = Decoders()
    yield pool
    pool.end()


@pytest.fixture(scope="module")
def quiet_pool() -> Iterator[Decoders]:
    """One for the tests that do its processes no harm: a start takes 0.3 s."""
    pool = Decoders()
    yield pool
    pool.end()


@pytest.fixture
def trap(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], bytes]:
    """Code -> a file that runs it in a decoder started after this."""
    monkeypatch.setattr(decoders, "PROGRAM", decoders.PROGRAM.replace("main()", TRAP))
    return lambda code: b"TRAP" + code.encode()


def pid(decoder: Decoder) -> int:
    return decoder._process.pid


def pids(pool: Decoders) -> set[int]:
    return {pid(decoder) for decoder in pool._all}


def gone(process: int) -> bool:
    """Whether a process has ended; one that nobody waited for yet counts."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return True
    return state == "Z"


def wait_until_gone(process: int) -> None:
    """The test's own time limit is the only one."""
    while not gone(process):
        threading.Event().wait(0.01)


def reason(load: Load, data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        load.decode(data, PREPROCESS)
    return str(caught.value)


def good(load: Load, seed: int = 0) -> None:
    found = load.decode(noise(seed), PREPROCESS)
    expected = apply_geometry(decode(noise(seed)), PREPROCESS)
    np.testing.assert_array_equal(found.placed.pixels, expected.pixels)
    np.testing.assert_array_equal(found.placed.crop, expected.crop)
    assert found.placed.crop.dtype == np.float32
    assert found.size == (30, 40)
