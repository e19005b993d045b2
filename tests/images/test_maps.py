"""Maps made elsewhere: found by name, read in every form, and refused or counted where they do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastxai.errors import ArgumentError
from fastxai.images import MapFiles

SIZE = (4, 6)
RNG = np.random.default_rng(0)
MAP = RNG.normal(size=SIZE)


def put(path: Path, values: np.ndarray = MAP) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


def read(folder: Path, *ids: str) -> tuple[torch.Tensor, list[str]]:
    return MapFiles("theirs", folder).read(ids, SIZE)


@pytest.mark.parametrize(
    "file", ["birds/owl.npy", "birds/owl.JPEG.npy", "owl.npy", "else/where/owl.npy", "owl.JPEG.npy"]
)
def test_a_map_is_named_after_its_image(tmp_path: Path, file: str) -> None:
    put(tmp_path / file)
    maps, missing = read(tmp_path, "birds/owl.JPEG", "birds/eagle.JPEG")
    assert missing == ["", "without a map in theirs"]
    assert torch.equal(maps[0], torch.from_numpy(MAP).float())
    assert maps.dtype == torch.float32
    assert maps[1].isnan().all()


def test_the_path_goes_before_the_last_part(tmp_path: Path) -> None:
    put(tmp_path / "a/owl.npy", 1 + MAP)
    put(tmp_path / "b/owl.npy", 2 + MAP)
    maps, missing = read(tmp_path, "b/owl.png", "a/owl.png")
    assert missing == ["", ""]
    assert torch.equal(maps[0], torch.from_numpy(2 + MAP).float())
    assert torch.equal(maps[1], torch.from_numpy(1 + MAP).float())


def test_names_with_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    put(tmp_path / "caf\udce9 1.5.npy")
    _, missing = read(tmp_path, "caf\\xe9 1.5.png")
    assert missing == [""]


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint16", "bool"])
def test_any_real_numbers_are_taken(tmp_path: Path, dtype: str) -> None:
    values = (3 * MAP).astype(dtype) if dtype != "bool" else MAP > 0
    put(tmp_path / "x.npy", values)
    assert torch.equal(read(tmp_path, "x.png")[0][0], torch.from_numpy(values.astype(np.float32)))


@pytest.mark.parametrize("shape", [(1, *SIZE), (*SIZE, 1)])
def test_one_channel_is_no_channel(tmp_path: Path, shape: tuple[int, ...]) -> None:
    put(tmp_path / "x.npy", MAP.reshape(shape))
    assert torch.equal(read(tmp_path, "x")[0][0], torch.from_numpy(MAP).float())


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_pictures_are_shares_of_white(tmp_path: Path, dtype: type, white: int) -> None:
    values = RNG.integers(0, white + 1, SIZE).astype(dtype)
    values[0, :2] = 0, white
    Image.fromarray(values).save(tmp_path / "x.png")
    found = read(tmp_path, "x.jpg")[0][0]
    assert torch.allclose(found, torch.from_numpy(values.astype(np.float64) / white).float(), rtol=0, atol=1e-7)
    assert found[0, :2].tolist() == [0.0, 1.0]


def test_a_npz_file_holds_a_map_an_image(tmp_path: Path) -> None:
    np.savez(tmp_path / "maps.npz", **{"birds/owl.png": MAP, "cat": 2 * MAP})
    maps, missing = read(tmp_path / "maps.npz", "cat.jpg", "birds/owl.png", "dog.png")
    assert missing == ["", "", "without a map in theirs"]
    assert torch.equal(maps[0], torch.from_numpy(2 * MAP).float())
    assert torch.equal(maps[1], torch.from_numpy(MAP).float())


def test_a_file_is_one_map_and_a_folder_may_hold_npz_files_of_one(tmp_path: Path) -> None:
    put(tmp_path / "owl.npy")
    assert read(tmp_path / "owl.npy", "owl.png", "cat.png")[1] == ["", "without a map in theirs"]
    np.savez(tmp_path / "cat.npz", heat=MAP)
    assert read(tmp_path, "cat.png")[1] == [""]
    np.savez(tmp_path / "dog.npz", a=MAP, b=MAP)
    with pytest.raises(ArgumentError, match="must be one array a file, got 2 in .*dog.npz"):
        read(tmp_path, "dog.png")


@pytest.mark.parametrize("shape", [(6, 4), (8, 12), (3, 4, 6), (24,)])
def test_another_geometry_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    put(tmp_path / "x.npy", np.zeros(shape))
    with pytest.raises(ArgumentError, match="must be 4 x 6, the geometry in which the model saw the pictures, got"):
        read(tmp_path, "x.png")


def test_a_large_picture_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("L", (500, 400)).save(tmp_path / "x.png")
    whole = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(whole[:60])  # its size is there, its pixels are not
    with pytest.raises(ArgumentError, match="got 400 x 500 for 'x.jpg': resize and crop them"):
        read(tmp_path, "x.jpg")


def test_what_is_no_map_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "x.png")
    with pytest.raises(ArgumentError, match="must be grey pictures of 8 or 16 bits, got mode RGB"):
        read(tmp_path, "x.png")
    put(tmp_path / "y.npy", MAP.astype(complex))
    with pytest.raises(ArgumentError, match="must be real numbers, got complex128 for 'y'"):
        read(tmp_path, "y")


def test_damaged_files_are_counted_and_nothing_is_unpickled(tmp_path: Path) -> None:
    put(tmp_path / "short.npy")
    whole = (tmp_path / "short.npy").read_bytes()
    (tmp_path / "short.npy").write_bytes(whole[:-8])
    (tmp_path / "none.npy").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"no picture")
    (tmp_path / "zip.npz").write_bytes(b"PK\x03\x04 no archive")
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    maps, missing = read(tmp_path, "short", "none", "text", "zip", "pickle")
    assert missing == ["with a map in theirs that cannot be read"] * 5
    assert maps.isnan().all()


def test_it_must_be_clear_whose_a_map_is(tmp_path: Path) -> None:
    put(tmp_path / "owl.npy")
    with pytest.raises(ArgumentError, match="got 'owl' for 'a/owl.png' and for 'b/owl.png'"):
        read(tmp_path, "a/owl.png", "b/owl.png")
    np.savez(tmp_path / "owl.npz", MAP)
    with pytest.raises(ArgumentError, match="must be one an image, got .*owl.np. and .*owl.np. for 'owl.png'"):
        read(tmp_path, "owl.png")


def test_maps_of_other_images_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "heat_owl.npy")
    files = MapFiles("theirs", tmp_path)
    files.read(["owl.png"], SIZE)
    with pytest.raises(ArgumentError, match="must be named after the images, got 'heat_owl' for images like 'owl.png'"):
        files.require_any("owl.png")


def test_places_without_maps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="must be a folder or a file"):
        MapFiles("theirs", tmp_path / "none")
    with pytest.raises(ArgumentError, match="must be in .npy, .npz, .png files, got none"):
        MapFiles("theirs", tmp_path)
    (tmp_path / "maps.npz").write_bytes(b"no zip")
    with pytest.raises(ArgumentError, match="must be a .npz file"):
        MapFiles("theirs", tmp_path / "maps.npz")
    (tmp_path / "maps.txt").write_bytes(b"")
    with pytest.raises(ArgumentError, match="must be .npy, .npz, .png, got"):
        MapFiles("theirs", tmp_path / "maps.txt")
