"""The program of a decoder process: request after request from stdin, replies to stdout, until stdin ends.

It protects the rest of the machine from the picture it works on. Timers whose signals nobody handles kill it, also
inside a C library that never returns; its address space is limited while it decodes; where memory runs out all the
same, the kernel is told to take it rather than the run. It is no sandbox: code that a picture smuggles in runs with
the rights of its user.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image

from fastxai.decoding.decode import as_image_error, decode, prepare_pillow
from fastxai.decoding.geometry import apply_geometry
from fastxai.decoding.limits import DecodeLimits
from fastxai.decoding.messages import READY, Decoded, read_request, receive, reply, send
from fastxai.errors import ImageError

_PILLOWS = Image.MAX_IMAGE_PIXELS or 0


def main() -> None:
    """Answer requests until there are no more."""
    _protect()
    warnings.simplefilter("ignore")
    prepare_pillow()
    with os.fdopen(os.dup(0), "rb") as requests, os.fdopen(os.dup(1), "wb", buffering=0) as replies:
        _silence()
        signal.alarm(0)  # the one that watches over the start
        with contextlib.suppress(EOFError, BrokenPipeError):  # the run has gone, and so does its decoder
            send(replies, READY)
            while True:
                fields, data = receive(requests)
                send(replies, *_answer(fields, data))
                del data


def _answer(fields: Mapping[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    preprocess, limits = read_request(fields)
    Image.MAX_IMAGE_PIXELS = max(limits.pixels, _PILLOWS)  # Pillow refuses twice as many, where it would not ask us
    try:
        with as_image_error(), _limited(limits):
            picture = decode(data, channels=preprocess.channels, max_pixels=limits.pixels)
            decoded = Decoded((picture.height, picture.width), apply_geometry(picture, preprocess))
    except ImageError as error:
        return {"error": str(error)}, b""
    return reply(decoded)


@contextlib.contextmanager
def _limited(limits: DecodeLimits) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = min(limit for limit in (limits.memory, soft, hard) if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    signal.setitimer(signal.ITIMER_PROF, limits.seconds)
    signal.setitimer(signal.ITIMER_REAL, limits.clock)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _protect() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # sent to the whole group: when decoders end is the run's to say
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)  # whatever was inherited
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM, signal.SIGPROF})
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no file behind
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # Linux has it
        file.write("1000")


def _silence() -> None:
    """Nothing that a library prints reaches the terminal, or gets between the replies."""
    sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(nowhere, handle)
    os.close(nowhere)
