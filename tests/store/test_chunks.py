from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from fastxai.store.chunks import filters, fletcher32, pack


def naive_fletcher32(data: bytes) -> int:
    """`H5_checksum_fletcher32` of H5checksum.c, step by step."""
    sum1 = sum2 = 0
    words = [data[i] << 8 | data[i + 1] for i in range(0, len(data) - 1, 2)]
    for start in range(0, len(words), 360):
        for word in words[start : start + 360]:
            sum1 += word
            sum2 += sum1
        sum1 = (sum1 & 0xFFFF) + (sum1 >> 16)
        sum2 = (sum2 & 0xFFFF) + (sum2 >> 16)
    if len(data) % 2:
        sum1 += data[-1] << 8
        sum2 += sum1
        sum1 = (sum1 & 0xFFFF) + (sum1 >> 16)
        sum2 = (sum2 & 0xFFFF) + (sum2 >> 16)
    sum1 = (sum1 & 0xFFFF) + (sum1 >> 16)
    sum2 = (sum2 & 0xFFFF) + (sum2 >> 16)
    return sum2 << 16 | sum1


@pytest.mark.parametrize("length", [0, 1, 2, 3, 359, 360, 719, 720, 721, 722, 1441, 5000, 131072, 131073, 300001])
def test_fletcher32_is_hdf5s(length: int) -> None:
    rng = np.random.default_rng(length)
    for data in (rng.bytes(length), b"\0" * length, b"\xff" * length, b"\0" * (length // 2) + b"\x01" * (length // 3)):
        assert fletcher32(data) == naive_fletcher32(data)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "uint16", "int32"])
@pytest.mark.parametrize("shape", [(1,), (3, 5), (1, 19, 111), (2, 224, 224)])
def test_packed_chunks_read_back_through_hdf5(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    rows = np.frombuffer(rng.bytes(3 * int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype).reshape(3, *shape)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("a", rows.shape, dtype, chunks=(1, *shape), **filters(np.dtype(dtype).itemsize))
        for number, row in enumerate(rows):
            dataset.id.write_direct_chunk((number, *(0,) * len(shape)), pack(row))
    with h5py.File(tmp_path / "a.h5") as file:
        read = file["a"][:]
    assert read.tobytes() == rows.tobytes()  # bytes: random bits hold NaN


def test_packed_chunks_are_those_of_hdf5(tmp_path: Path) -> None:
    """The same filters run by HDF5 give a chunk that unpacks to the same shuffled bytes, with a sum that fits."""
    import zlib

    row = np.random.default_rng(0).normal(size=(31, 17)).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("a", data=row[None], chunks=(1, 31, 17), **filters(4))
        file.flush()
        _, theirs = dataset.id.read_direct_chunk((0, 0, 0))
    ours = pack(row)
    assert zlib.decompress(ours[:-4]) == zlib.decompress(theirs[:-4])
    assert fletcher32(theirs[:-4]) == int.from_bytes(theirs[-4:], "little")


def test_pack_takes_views(tmp_path: Path) -> None:
    row = np.arange(60, dtype=np.float32).reshape(5, 12)
    assert pack(row.T[::2]) == pack(np.ascontiguousarray(row.T[::2]))


def test_a_flipped_byte_is_found_on_reading(tmp_path: Path) -> None:
    row = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    packed = pack(row)
    for position in (0, 2, len(packed) // 2, len(packed) - 1):
        broken = bytearray(packed)
        broken[position] ^= 0x10
        path = tmp_path / f"{position}.h5"
        with h5py.File(path, "w") as file:
            dataset = file.create_dataset("a", (1, 16, 16), "<f4", chunks=(1, 16, 16), **filters(4))
            dataset.id.write_direct_chunk((0, 0, 0), bytes(broken))
        with h5py.File(path) as file, pytest.raises(OSError, match="filter"):
            file["a"][:]
