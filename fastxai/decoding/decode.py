"""Bytes -> an upright 8-bit picture, RGB or grey; or `ImageError` with a short reason, whatever the bytes.

The rules, each tested by pixel:
- EXIF (or XMP) orientation is applied; EXIF that cannot be read is ignored.
- Opacity (RGBA, LA, PA, palettes and colours marked transparent) is laid over white.
- 16-bit grey and 32-bit integers are read as 0..65535 and divided by 257, rounded. Integers outside of that range have
  no agreed meaning and are refused. 16-bit colour is reduced by Pillow to its upper 8 bits.
- Floats are read as 0..1 where none is above 1, otherwise as 0..255; outside of that, and NaN, they are refused.
- CMYK, YCbCr and HSV go through Pillow's own formulas, LAB through its colour management. Embedded ICC profiles are
  ignored, as the models' own training pipelines ignored them.
- Of an animation the first frame is taken.
- EPS and PostScript are programs, which Pillow would run: they are refused.
"""

from __future__ import annotations

import contextlib
import functools
import io
import sys
import threading
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from fastxai.decoding.limits import MAX_PIXELS
from fastxai.errors import ImageError

REASON_LENGTH = 200

_TURNS = {  # EXIF orientation -> what brings the picture upright (EXIF 2.3, table 5)
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes, *, channels: int = 3, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The upright picture in `data`: mode RGB, or L with `channels=1`.

    Raises `ImageError` for anything that is not a whole picture, and above `max_pixels` (before it is decoded).
    """
    with as_image_error(), quiet_pillow():
        if data.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6")):
            raise ImageError("EPS and PostScript are programs, not pictures: convert it to PNG first")
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            return upright(image, channels=channels, max_pixels=max_pixels)


def upright(image: Image.Image, *, channels: int = 3, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A new picture: `image`, turned upright, as RGB or L.

    Raises `ImageError` for what has no meaning or too many pixels, and whatever Pillow raises for broken data.
    """
    pixels = image.width * image.height
    if pixels > max_pixels:
        size = f"{image.width} x {image.height} pixels"
        raise ImageError(f"picture has {size}, more than the limit of {max_pixels / 1e6:g} megapixels")
    image.load()
    if image.width * image.height == 0:
        raise ImageError("picture has no pixels")
    picture = _eight_bit(image)
    turn = _TURNS.get(_orientation(image))
    if turn is not None:
        picture = picture.transpose(turn)
    mode = "L" if channels == 1 else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)


def from_array(pixels: np.ndarray, *, channels: int = 3, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """uint8 [H, W] or [H, W, 1, 3 or 4] as a picture, RGB or L; a fourth channel is opacity, over white."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
    return upright(image, channels=channels, max_pixels=max_pixels)


def prepare_pillow() -> None:
    """Load all of Pillow's readers, and let none start threads: there are as many decoders as the caller wants."""
    _formats()
    avif = sys.modules.get("PIL.AvifImagePlugin")  # Pillow 11.3 and later
    if avif is not None:
        avif.DEFAULT_MAX_THREADS = 1  # type: ignore[attr-defined]


def _eight_bit(image: Image.Image) -> Image.Image:
    """A new picture in mode L or RGB (or one that converts to them by Pillow's formulas)."""
    if image.mode.startswith("I"):
        return _from_integers(np.asarray(image))
    if image.mode == "F":
        return _from_floats(np.asarray(image))
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        white = Image.new("RGB", colours.size, "white")
        white.paste(colours, mask=colours.getchannel("A"))  # rounds (a * colour + (255 - a) * 255) / 255
        return white
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _from_integers(values: np.ndarray) -> Image.Image:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(f"integer pixels must be 16-bit, 0..65535, got {low}..{high}")
    return Image.fromarray(
        ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    )  # 65535 / 255 = 257, odd: no ties


def _from_floats(values: np.ndarray) -> Image.Image:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0.0 and high <= 255.0):
        raise ImageError(f"float pixels must be 0..1 or 0..255, got {low:g}..{high:g}")
    return Image.fromarray(np.rint(values * (255.0 if high <= 1.0 else 1.0)).astype(np.uint8))


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except MemoryError:
        raise
    except Exception:  # broken EXIF raises a dozen types; the picture is as good without it
        return 1
    return value if isinstance(value, int) else 1


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in Image.ID if name != "EPS")


@contextlib.contextmanager
def as_image_error() -> Iterator[None]:
    """Any exception inside becomes an `ImageError` with one short readable line; Pillow raises nearly every type."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("not a picture of a kind that Pillow reads") from error
    except Image.DecompressionBombError as error:
        said = str(error).partition(" exceeds")[0]  # without Pillow's limit, which is not ours
        raise ImageError(f"picture is too large: {said}"[:REASON_LENGTH]) from error
    except MemoryError as error:
        raise ImageError("picture does not fit into memory") from error
    except Exception as error:
        raise ImageError(f"broken picture: {short(error)}") from error


def printable(text: str) -> str:
    """`text` in one line, with a space for what is no printable character."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def short(error: BaseException) -> str:
    """An exception in one line of printable text."""
    text = printable(str(error))
    if isinstance(error, OSError) and text:
        return text[:REASON_LENGTH]
    return f"{type(error).__name__}{': ' if text else ''}{text}"[:REASON_LENGTH]


_quiet_lock = threading.Lock()
_quiet_count = 0
_PILLOW = r"PIL(\.|$)"


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Pillow's warnings (odd EXIF, large pictures) reach nobody while any thread is inside.

    `warnings.catch_warnings` restores a snapshot, which loses filters when threads overlap; here one filter comes with
    the first thread and goes with the last.
    """
    global _quiet_count
    with _quiet_lock:
        _quiet_count += 1
        warnings.filterwarnings("ignore", module=_PILLOW)  # no second one where it stands already
        ours = warnings.filters[0]
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_count -= 1
            if _quiet_count == 0 and ours in warnings.filters:
                warnings.filters.remove(ours)  # type: ignore[attr-defined]
