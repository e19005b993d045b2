"""Pictures that hang their decoder, crash it or eat memory are one reason each; all others are decoded as here."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastxai.decoding import DecodeLimits, Load, apply_geometry, decode
from fastxai.decoding.decoders import Decoder, Decoders
from fastxai.errors import ImageError
from fastxai.types import Preprocess

from .conftest import PREPROCESS, encoded, good, noise, pid, pids, reason

MIB = 1 << 20


HANGS = {
    "computing": "while True: pass",
    "in C": "import re; re.match('(a+)+$', 'a' * 64 + 'b')",
    "with signals caught": "while True:\n try:\n  while True: pass\n except BaseException: pass",
}


@pytest.mark.timeout(60)
def test_a_hang_ends(pool: Decoders, trap: Callable[[str], bytes]) -> None:
    load = Load(DecodeLimits(seconds=0.25), pool)
    for how, code in HANGS.items():
        assert reason(load, trap(code)) == "decoder took longer than 0.25 s", how
    waits = trap("import time; time.sleep(1000)")
    assert reason(Load(DecodeLimits(seconds=0.1), pool), waits) == "decoder hung for 1 s"
    good(Load(decoders=pool))


@pytest.mark.timeout(60)
def test_a_hang_ends_where_the_signals_of_timers_are_blocked_or_ignored(trap: Callable[[str], bytes]) -> None:
    numbers = (signal.SIGALRM, signal.SIGPROF)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    handler = signal.signal(signal.SIGPROF, signal.SIG_IGN)
    try:
        decoder = Decoder()  # a new program inherits both
    finally:
        signal.signal(signal.SIGPROF, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with pytest.raises(ImageError, match="longer than 0.25 s"):
        decoder.decode(trap("while True: pass"), PREPROCESS, DecodeLimits(seconds=0.25))


def test_a_large_picture_takes_longer_than_a_tiny_limit(pool: Decoders) -> None:
    data = encoded(Image.new("L", (10_000, 5000), 7))
    said = reason(Load(DecodeLimits(seconds=0.02), pool), data)
    assert said in ("decoder took longer than 0.02 s", "decoder hung for 0.2 s")  # the latter on a busy machine
    found = Load(decoders=pool).decode(data, PREPROCESS)
    assert found.size == (5000, 10_000)
    assert (found.placed.pixels == 7).all()


DEATHS = {
    "import ctypes; ctypes.string_at(0)": "decoder crashed (SIGSEGV)",
    "import os; os.abort()": "decoder crashed (SIGABRT)",
    "import os, signal; os.kill(os.getpid(), signal.SIGBUS)": "decoder crashed (SIGBUS)",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": "decoder was killed (SIGKILL), as it happens where",
    "import os; os._exit(3)": "decoder ended with status 3",
}


@pytest.mark.timeout(60)
def test_a_crash_is_one_reason(pool: Decoders, trap: Callable[[str], bytes]) -> None:
    load = Load(decoders=pool)
    seen = set()
    for seed, code in enumerate(DEATHS):
        good(load, seed)
        seen |= pids(pool)
        assert reason(load, trap(code)).startswith(DEATHS[code])
    assert len(seen) == len(DEATHS)
    assert pids(pool) == set()


@pytest.mark.timeout(60)
def test_a_decoder_that_was_taken_over_can_answer_nothing_but_a_picture(
    pool: Decoders, trap: Callable[[str], bytes]
) -> None:
    lengths = {b"\xff" * 16: "bytes", (2).to_bytes(8, "little") + bytes(8) + b"[]": "without fields"}
    for written, wanted in lengths.items():
        code = f"import os\nfor n in range(3, 9):\n try: os.write(n, {written!r})\n except OSError: pass"
        found = reason(Load(decoders=pool), trap(code))
        assert found.startswith("decoder gave an answer that makes no sense: ") and wanted in found
    good(Load(decoders=pool))


def test_a_crash_in_the_middle_of_a_large_file_is_one_reason(pool: Decoders) -> None:
    with pool.one() as decoder:
        os.kill(pid(decoder), signal.SIGSTOP)
        threading.Timer(0.05, lambda: os.kill(pid(decoder), signal.SIGSEGV)).start()
        threading.Timer(0.1, lambda: os.kill(pid(decoder), signal.SIGCONT)).start()
        with pytest.raises(ImageError, match="SIGSEGV"):  # more than a pipe holds: dies while the file is written
            decoder.decode(bytes(4 * MIB), PREPROCESS, DecodeLimits())
    good(Load(decoders=pool))


def test_memory_is_limited(pool: Decoders, trap: Callable[[str], bytes]) -> None:
    small, large = Load(DecodeLimits(memory=256 * MIB), pool), Load(DecodeLimits(memory=1024 * MIB), pool)
    hungry = trap("x = bytearray(600 << 20); raise OSError('got it')")
    assert reason(small, hungry) == "picture does not fit into memory"
    assert reason(large, hungry) == "broken picture: got it"
    picture = encoded(Image.new("RGB", (10_000, 5000)))  # 200 MB in Pillow, and a copy
    assert reason(small, picture) == "picture does not fit into memory"
    assert large.decode(picture, PREPROCESS).size == (5000, 10_000)
    good(small)
    assert len(pids(pool)) == 1


def test_pixels_are_limited(quiet_pool: Decoders) -> None:
    assert "40 x 30 pixels, more than the limit of 0.001199 megapixels" in reason(
        Load(DecodeLimits(pixels=1199), quiet_pool), noise(0)
    )
    good(Load(DecodeLimits(pixels=1200), quiet_pool))


@pytest.mark.parametrize("resize", [None, 20, (11, 13)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (3, 100), (41, 37)])
def test_by_pixel_what_this_process_would_decode(
    quiet_pool: Decoders, resize: int | tuple[int, int] | None, channels: int, size: tuple[int, int]
) -> None:
    data = noise(3, *size)
    preprocess = Preprocess((12, 9), resize, "lanczos", (0.1,) * channels, (0.2,) * channels)
    found = Load(decoders=quiet_pool).decode(data, preprocess)
    expected = apply_geometry(decode(data, channels=channels), preprocess)
    np.testing.assert_array_equal(found.placed.pixels, expected.pixels)
    np.testing.assert_array_equal(found.placed.crop, expected.crop)


def test_numbers_of_numpy_are_taken(quiet_pool: Decoders) -> None:
    sizes = tuple(np.array([8, 6]))
    found = Load(decoders=quiet_pool).decode(
        noise(0), Preprocess(sizes, np.int64(9), "bicubic", (0.5,) * 3, (0.5,) * 3)
    )
    np.testing.assert_array_equal(found.placed.pixels, apply_geometry(decode(noise(0)), PREPROCESS).pixels)


@pytest.mark.timeout(60)
def test_closing_breaks_off_what_hangs(pool: Decoders, trap: Callable[[str], bytes], tmp_path: Path) -> None:
    load, mark = Load(DecodeLimits(seconds=1000), pool), tmp_path / "mark"
    hang = trap(f"import time; open({str(mark)!r}, 'w').close(); time.sleep(1000)")
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(reason, load, hang)
        while not mark.exists():
            threading.Event().wait(0.01)
        load.close()
        assert waiting.result()
    good(Load(decoders=pool))


def test_nothing_that_is_printed_comes_through(
    trap: Callable[[str], bytes], pool: Decoders, capfd: pytest.CaptureFixture[str]
) -> None:
    code = "import os, sys; os.write(1, b'C'); os.write(2, b'C'); print('P'); print('P', file=sys.stderr, flush=True)"
    assert reason(Load(decoders=pool), trap(code)) == "not a picture of a kind that Pillow reads"
    good(Load(decoders=pool))
    pool.end()
    assert capfd.readouterr() == ("", "")
