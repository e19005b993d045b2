"""Decoding, by pixel, with pictures made here; and whatever the bytes, a picture or a reason."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from fastxai.decoding import decode, upright
from fastxai.decoding.decode import as_image_error, quiet_pillow
from fastxai.errors import ImageError
from fastxai.images import digest


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(data: bytes, channels: int = 3) -> np.ndarray:
    return np.asarray(decode(data, channels=channels))


def attempt(data: bytes) -> tuple[Image.Image | None, str]:
    """The picture, or the reason why there is none."""
    try:
        return decode(data), ""
    except ImageError as error:
        return None, str(error)


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA"])
def test_rgb_is_kept(rgb: np.ndarray, kind: str) -> None:
    picture = decode(encoded(Image.fromarray(rgb), kind))
    assert picture.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(picture), rgb)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_exif_orientation_is_applied(rgb: np.ndarray, kind: str, orientation: int) -> None:
    # the naive twin: EXIF 2.3 names the edges that row 0 and column 0 of the stored pixels show
    turned: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a[::-1].transpose(1, 0, 2),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: a.transpose(1, 0, 2)[::-1],
    }
    stored = Image.fromarray(rgb)
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(kind, {})
    plain = pixels(encoded(stored, kind, **lossless))  # JPEG is not exact: compare with itself, not turned
    np.testing.assert_array_equal(pixels(encoded(stored, kind, exif=exif, **lossless)), turned[orientation](plain))


def test_broken_exif_is_ignored(rgb: np.ndarray) -> None:
    plain = encoded(Image.fromarray(rgb), "JPEG")
    for exif in (
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\xff\0",
    ):
        np.testing.assert_array_equal(pixels(encoded(Image.fromarray(rgb), "JPEG", exif=exif)), pixels(plain))


def test_grey_bilevel_and_palette(rgb: np.ndarray) -> None:
    grey = rgb[:, :, 0]
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(grey), "PNG")), np.repeat(grey[..., None], 3, 2))
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(grey), "PNG"), channels=1), grey)
    bits = Image.fromarray(grey > 127)
    assert bits.mode == "1"
    np.testing.assert_array_equal(pixels(encoded(bits, "PNG"), channels=1), np.where(grey > 127, 255, 0))
    palette = Image.fromarray(grey % 4)
    palette.putpalette([10, 20, 30, 255, 0, 0, 0, 255, 0, 1, 2, 3])
    table = np.array([[10, 20, 30], [255, 0, 0], [0, 255, 0], [1, 2, 3]], np.uint8)
    np.testing.assert_array_equal(pixels(encoded(palette, "PNG")), table[grey % 4])
    with_hole = pixels(encoded(palette, "PNG", transparency=2))
    np.testing.assert_array_equal(with_hole, np.where((grey % 4 == 2)[..., None], 255, table[grey % 4]))
    half = pixels(encoded(palette, "PNG", transparency=bytes([255, 0, 128, 255])))
    table[1], table[2] = 255, over_white(np.array([[0, 255, 0]], np.uint8), np.array([128], np.uint8))[0]
    np.testing.assert_array_equal(half, table[grey % 4])


def over_white(colour: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    a = opacity[..., None].astype(np.float64)
    return np.floor((colour * a + 255 * (255 - a)) / 255 + 0.5).astype(np.uint8)


def test_opacity_is_laid_over_white() -> None:
    colour, opacity = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    rgba = np.stack([colour, 255 - colour, colour // 2, opacity], 2)  # every colour with every opacity
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(rgba), "PNG")), over_white(rgba[..., :3], opacity))
    grey = np.asarray(decode(encoded(Image.fromarray(np.stack([colour, opacity], 2)), "PNG"), channels=1))
    np.testing.assert_array_equal(grey, over_white(colour[..., None], opacity)[..., 0])


def test_a_colour_marked_transparent_is_white(rgb: np.ndarray) -> None:
    key = tuple(int(v) for v in rgb[2, 3])
    expected = rgb.copy()
    expected[2, 3] = 255
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(rgb), "PNG", transparency=key)), expected)


def test_cmyk(rgb: np.ndarray) -> None:
    cmyk = np.concatenate([rgb, 255 - rgb[..., :1]], 2)
    found = pixels(encoded(Image.frombytes("CMYK", (5, 7), cmyk.tobytes()), "TIFF"))
    exact = (255.0 - cmyk[..., :3]) * (255.0 - cmyk[..., 3:]) / 255
    assert np.abs(found - exact).max() <= 1.0  # Pillow rounds the product its own way


def test_lab() -> None:
    # known answers: L* a* b* of white, black, middle grey and the red primary of sRGB (D50), 8-bit TIFF coding
    lab = np.array([[[255, 0, 0], [0, 0, 0], [137, 0, 0], [138, 81, 70]]], np.uint8)
    found = pixels(encoded(Image.frombytes("LAB", (4, 1), lab.tobytes()), "TIFF"))[0].astype(int)
    expected = np.array([[255, 255, 255], [0, 0, 0], [128, 128, 128], [255, 0, 0]])
    # a* and b* are whole numbers: half a step of them is up to 5 in the dark channels of a pure red
    assert np.abs(found - expected).max() <= 6


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_divided_by_257(kind: str) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.floor(values / 257 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(values), kind), channels=1), expected)
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(values), kind)), np.repeat(expected[..., None], 3, 2))


def test_big_endian_16_bit_grey() -> None:
    values = np.array([[0, 257, 65535, 256]], np.uint16)
    image = Image.frombytes("I;16B", (4, 1), values.astype(">u2").tobytes())
    np.testing.assert_array_equal(np.asarray(upright(image, channels=1)), [[0, 1, 255, 1]])


def test_32_bit_integers() -> None:
    values = np.array([[0, 257, 65535, 385, 386]], np.int32)
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(values), "TIFF"), channels=1), [[0, 1, 255, 1, 2]])
    for wrong in (-1, 65536):
        with pytest.raises(ImageError, match=r"integer pixels must be 16-bit, 0\.\.65535"):
            decode(encoded(Image.fromarray(np.array([[0, wrong]], np.int32)), "TIFF"))


def test_floats() -> None:
    unit = np.array([[0.0, 0.5, 1.0, 0.1]], np.float32)
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(unit), "TIFF"), channels=1), [[0, 128, 255, 26]])
    bytes_ = np.array([[0.0, 1.4, 255.0, 99.6]], np.float32)
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(bytes_), "TIFF"), channels=1), [[0, 1, 255, 100]])
    for wrong in (-0.1, 255.1, np.nan, np.inf):
        with pytest.raises(ImageError, match="float pixels must be"):
            decode(encoded(Image.fromarray(np.array([[0.0, wrong]], np.float32)), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_shows_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "white")]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(pixels(data), np.asarray(frames[0]))


def test_the_given_picture_stays_as_it_is(rgb: np.ndarray) -> None:
    image = Image.fromarray(rgb)
    image.getexif()[0x0112] = 6
    turned = upright(image)
    assert turned.size == (7, 5)
    assert image.size == (5, 7)
    assert image.getexif()[0x0112] == 6
    turned.putpixel((0, 0), (1, 2, 3))
    np.testing.assert_array_equal(np.asarray(image), rgb)


def test_every_cut_of_a_picture_is_a_reason_or_a_picture(rgb: np.ndarray) -> None:
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
        data = encoded(Image.fromarray(rgb), kind)
        decode(data)
        for end in range(0, len(data), 7):
            picture, reason = attempt(data[:end])
            assert picture is not None or 0 < len(reason) < 300
            assert picture is None or picture.size == (5, 7)
            assert reason.isprintable()


def test_reasons(rgb: np.ndarray) -> None:
    with pytest.raises(ImageError, match="^not a picture of a kind that Pillow reads$"):
        decode(b"hello")
    with pytest.raises(ImageError, match="truncated"):
        decode(encoded(Image.effect_noise((200, 200), 50), "JPEG")[:2000])
    with pytest.raises(ImageError, match="EPS and PostScript are programs"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n")


def test_large_pictures_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("1", (20_000, 10_001)), "PNG")
    large = encoded(Image.new("1", (12_000, 9000)), "PNG")
    small = encoded(Image.new("L", (3, 2)), "PNG")
    assert decode(small, max_pixels=6).size == (3, 2)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("was decoded"))
    with pytest.raises(ImageError, match=r"too large|20000 x 10001 pixels, more than the limit of 100 megapixels"):
        decode(data)
    with pytest.raises(ImageError, match="12000 x 9000 pixels, more than the limit of 100 megapixels"):
        decode(large)
    with pytest.raises(ImageError, match=r"3 x 2 pixels, more than the limit of 5e-06 megapixels"):
        decode(small, max_pixels=5)


def test_fifty_megapixels_are_read() -> None:
    assert decode(encoded(Image.new("L", (10_000, 5000), 7), "PNG"), channels=1).getpixel((9999, 4999)) == 7


@pytest.mark.parametrize(
    "error", [MemoryError(), ValueError("bad\nthing\0"), SyntaxError(), RecursionError("deep"), KeyError(7)]
)
def test_any_exception_becomes_one_line(error: Exception) -> None:
    with pytest.raises(ImageError) as caught, as_image_error():
        raise error
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) > 10


def test_pillow_warnings_reach_nobody_and_filters_are_given_back() -> None:
    tags = ImageFileDirectory_v2()
    tags[270] = "text"
    data = bytearray(encoded(Image.new("L", (2, 2)), "TIFF", tiffinfo=tags))
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda _: decode(bytes(data)), range(64)):
            pass
    with quiet_pillow(), quiet_pillow():
        warnings.warn_explicit("x", UserWarning, "PIL/Image.py", 1, module="PIL.Image")
        with pytest.raises(UserWarning):
            warnings.warn_explicit("x", UserWarning, "elsewhere.py", 1, module="PILlow")
    assert list(warnings.filters) == before
    with pytest.raises(UserWarning):
        warnings.warn_explicit("x", UserWarning, "PIL/Image.py", 1, module="PIL.Image")


def test_a_picture_between_the_limits_of_pillow_and_ours_does_not_warn() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    size = (10_000, Image.MAX_IMAGE_PIXELS // 10_000 + 1)  # Pillow warns here, which is an error in tests
    with pytest.raises(ImageError, match="limit of 1 megapixels"):
        decode(encoded(Image.new("1", size), "PNG"), max_pixels=1_000_000)


def test_digests() -> None:
    assert digest(b"abc") == "cf4ab791c62b8d2b2109c90275287816"  # b2sum -l 128
    array = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert digest(array) == digest(array.copy())
    assert digest(array) != digest(array.reshape(2, 6, 1))
    assert digest(array.transpose(1, 0, 2)) == digest(np.ascontiguousarray(array.transpose(1, 0, 2)))
    assert digest(Image.fromarray(array)) != digest(Image.fromarray(array[::-1].copy()))
    assert digest(Image.fromarray(array)) == digest(Image.fromarray(array))


def test_rare_but_valid_pictures_are_turned_upright(shared_data: Path) -> None:
    folder = shared_data / "bad_images"
    pictures = {n: decode((folder / f"hopper_orientation_{n}.webp").read_bytes()) for n in range(2, 9)}
    reference = np.asarray(pictures[2]).astype(float)
    for picture in pictures.values():  # the same face in all of them; lossy, so on average: other turns differ by > 40
        assert np.abs(np.asarray(picture).astype(float) - reference).mean() < 8
    sizes = {decode((folder / f"g4_orientation_{n}.tif").read_bytes()).size for n in (2, 4, 6, 8)}
    assert sizes == {(590, 88), (88, 590)} or len(sizes) == 1
    tagged = decode((folder / "xmp_tags_orientation.png").read_bytes())
    with Image.open(folder / "xmp_tags_orientation.png") as image:
        np.testing.assert_array_equal(
            np.asarray(tagged), np.asarray(decode(encoded(ImageOps.exif_transpose(image), "PNG")))
        )
