"""HDF5 chunks packed outside of HDF5: shuffle, gzip and fletcher32 in numpy and ISA-L, so that threads can work.

HDF5 runs its filters under one lock. Chunks packed here go into a file by `write_direct_chunk` and read back through
HDF5's own filters, which check the sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

# ISA-L's 2 takes 0.5 to 0.6 ms for a picture or map of 224x224; zlib's 1 takes 3 to 6, for chunks 2 to 7% smaller.
_LEVEL = 2
_HDF5_LEVEL = 1  # on record in the file, for programs that pack chunks anew; any level reads back in the same way

# Words per block of the checksum: the weighted sum of a block stays below 2^16 * 2^31, far from the limits of int64.
_BLOCK = 1 << 16


def filters(itemsize: int) -> dict[str, Any]:
    """The options of `h5py.Group.create_dataset` that fit `pack`, in the order shuffle, gzip, fletcher32."""
    return {
        "shuffle": itemsize > 1,
        "compression": "gzip",
        "compression_opts": _HDF5_LEVEL,
        "fletcher32": True,
    }


def pack(values: NDArray[Any]) -> bytes:
    """One chunk as HDF5 stores it behind the filters shuffle, gzip and fletcher32."""
    packed = isal_zlib.compress(shuffle(values), _LEVEL)
    return packed + fletcher32(packed).to_bytes(4, "little")


def shuffle(values: NDArray[Any]) -> bytes:
    """All first bytes of the elements, then all second bytes, and so on (HDF5 filter 2); bytes stay as they are."""
    values = np.ascontiguousarray(values)
    if values.itemsize == 1:
        return values.tobytes()
    return values.reshape(-1).view(np.uint8).reshape(-1, values.itemsize).T.tobytes()


def fletcher32(data: bytes) -> int:
    """The checksum of HDF5's filter 3 (`H5_checksum_fletcher32`).

    Two sums in ones' complement over big-endian 16-bit words w_1..w_n: sum1 = w_1 + ... + w_n and sum2 = n w_1 +
    (n - 1) w_2 + ... + w_n, each folded to 16 bits; an odd last byte is the high half of one more word.
    """
    if len(data) % 2:
        data += b"\0"
    words = np.frombuffer(data, dtype=">u2").astype(np.int64)
    sum1 = sum2 = 0
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK]
        count = len(block)
        # The words before this block are counted once more for each word in it.
        sum2 += count * sum1 + int(np.dot(block, np.arange(count, 0, -1)))
        sum1 += int(block.sum())
    return _fold(sum2) << 16 | _fold(sum1)


def _fold(total: int) -> int:
    """A sum in ones' complement as HDF5 leaves it: 0 only for 0, otherwise 1..65535."""
    return (total - 1) % 0xFFFF + 1 if total else 0
