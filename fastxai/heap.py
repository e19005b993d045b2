"""The heap of the process under glibc: freed memory stays at hand, and memory is the same from picture to picture.

Where there is no glibc, nothing of this is done.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

# glibc's options (malloc.h) and their values. The largest block that can come from memory at hand is fixed there.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST = 32 * 2**20
_KEPT = {_MMAP_THRESHOLD: _LARGEST, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20}
# What glibc comes to by itself in a process that has used blocks of that size: setting anything ends its adapting.
_USUAL = {_MMAP_THRESHOLD: _LARGEST, _TRIM_THRESHOLD: 2 * _LARGEST, _TOP_PAD: 128 * 2**10}
_ROOM = 16  # blocks of almost `_LARGEST`: about 500 MiB
_SMALLEST_HOLE = 64 * 2**10
_SETTLED = {_MMAP_THRESHOLD: _SMALLEST_HOLE, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 128 * 2**10}
_PIECE = 128 * 2**10  # of free places that are looked at for whether they are in memory
# Sizes of small places to keep free in a heap, and how many of each; about 3 MiB.
_SMALL = {**dict.fromkeys(range(32, 1024, 16), 32), **dict.fromkeys(range(1024, 16 * 2**10, 1024), 8)}
_HEADER = ctypes.sizeof(ctypes.c_size_t)  # before a block: its size, the lowest bits of which say where it is from
_MAPPED = 2  # the system, for this block alone
_DONTNEED = 4  # of madvise(2)

_holders, _holding = 0, threading.Lock()


def give_back() -> None:
    """Give free memory back to the system."""
    if (glibc := _glibc()) is not None:
        glibc.malloc_trim(0)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Meanwhile memory that this process frees stays with it, for the next call of the model.

    glibc gives large blocks back to the system and gets them again at the next call, page by page: 25,000 pages, and
    60 to 75 of 440 ms, for the input gradients of eight rows of a compiled ResNet-50 on two cores. It holds for the
    whole process; at the end what is free is given back.
    """
    global _holders
    glibc = _glibc()
    if glibc is None:
        yield
        return
    with _holding:
        _holders += 1
        if _holders == 1:
            _set(glibc, _KEPT)
    make_room()
    try:
        yield
    finally:
        with _holding:
            _holders -= 1
            if _holders == 0:
                _set(glibc, _USUAL)
                glibc.malloc_trim(0)


def make_room() -> None:
    """Have the heap of the calling thread grow by free places, within `freed_memory_kept`.

    It never grows for a block of more than 32 MiB, which is mapped at every call unless a free place holds it: 9,400
    pages, for the largest activation of eight rows of an EfficientNet-Lite0 in float32. Places take no memory until
    they are used.
    """
    if (glibc := _glibc()) is not None:
        for block in [glibc.malloc(_LARGEST - 2**20) for _ in range(_ROOM)]:
            glibc.free(block)


class SteadyHeap:
    """Memory that is the same from batch to batch: the context of a long run, within `freed_memory_kept`.

    Loading, timing and compiling a model leave free places between blocks that stay, in the heap of every thread that
    took part. Later blocks would come to lie in one and then in another of them, because some small block has taken a
    bit of the first, and every page that they touch stays with the process: 10 to 40 KiB more for every picture.

    on_readers: has every thread that calls the model do something, while none of them is at it.
    """

    def __init__(self, on_readers: Callable[[Callable[[], None]], None] = lambda call: call()) -> None:
        self._on_readers = on_readers
        self._taken = list[int]()
        self._settled = False

    def __enter__(self) -> SteadyHeap:
        def prepare() -> None:
            self.begin()
            make_room()

        self._on_readers(prepare)
        return self

    def __exit__(self, *error: object) -> None:
        """Let go of what was taken."""
        if (glibc := _glibc()) is not None:
            with _holding:
                _set(glibc, _KEPT if _holders else _USUAL)
            for block in self._taken:
                glibc.free(block)
            self._taken.clear()

    def begin(self) -> None:
        """To be called by every other thread of the run before its work: it leaves older free places in its heap alone.

        Those of 64 KiB and more are taken and their pages given back to the system, so that blocks come from the end of
        the heap; and small ones are made, so that small blocks that stay do not come to lie among large ones.
        """
        if (glibc := _glibc()) is not None:
            self._taken += _filled(glibc, _SMALLEST_HOLE if self._settled else _LARGEST)

    def settle(self) -> None:
        """To be called after every batch that the model has worked on.

        From the first on blocks come to lie where that one's have been: free places that it has not touched are taken.
        Heaps grow for small blocks only; what fits no free place gets memory of its own from the system, and gives it
        back.
        """
        if (glibc := _glibc()) is not None and not self._settled:
            self._settled = True
            with _holding:
                _set(glibc, _SETTLED)
            self._on_readers(lambda: self._taken.extend(_untouched(glibc)))


def apart(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Zeros, from 64 KiB on in memory of their own, which goes back to the system with them.

    For what stays while the model is called many times, as pictures in work do: among blocks that come and go, it would
    decide where those come to lie.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < _SMALLEST_HOLE or _glibc() is None:
        return np.zeros(shape, dtype)
    own = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(own, dtype).reshape(shape)


def _filled(glibc: ctypes.CDLL, threshold: int) -> Iterator[int]:
    """Blocks that fill the free places of the calling thread's heap, and those between new small places.

    threshold: from which size on blocks are mapped afterwards.
    """
    with _holding:
        glibc.mallopt(_MMAP_THRESHOLD, _SMALLEST_HOLE)  # what fits no free place is mapped, and so tells itself apart
        try:
            for block, size in _in_holes(glibc, _LARGEST):
                first, pages = _pages(block, size)
                glibc.madvise(first, pages * mmap.PAGESIZE, _DONTNEED)
                yield block
        finally:
            glibc.mallopt(_MMAP_THRESHOLD, threshold)
    free = list[int]()
    for size, count in _SMALL.items():
        for _ in range(count):
            free.append(glibc.malloc(size - _HEADER))
            yield glibc.malloc(1)  # keeps free places from growing together
    for block in free:
        glibc.free(block)


def _untouched(glibc: ctypes.CDLL) -> Iterator[int]:
    """Blocks that fill those free places of the calling thread's heap that are not in memory. It has settled."""
    touched = list[int]()
    for block, size in list(_in_holes(glibc, _PIECE)):
        first, pages = _pages(block, size)
        resident = (ctypes.c_ubyte * pages)()
        if glibc.mincore(first, pages * mmap.PAGESIZE, resident) == 0 and not (np.asarray(resident) & 1).any():
            yield block
        else:
            touched.append(block)
    for block in touched:  # last of all: whatever is kept here must not come to lie in these places
        glibc.free(block)


def _in_holes(glibc: ctypes.CDLL, size: int) -> Iterator[tuple[int, int]]:
    """New blocks in all free places of the calling thread's heap, of at most `size` bytes, with their sizes.

    Meanwhile blocks of 64 KiB must be mapped where they fit none.
    """
    while size >= _SMALLEST_HOLE:
        block = int(glibc.malloc(size) or 0)
        if block and not ctypes.c_size_t.from_address(block - _HEADER).value & _MAPPED:
            yield block, size
        else:
            glibc.free(block)
            size = size * 7 // 8


def _pages(block: int, size: int) -> tuple[int, int]:
    """Address and number of the whole pages of a block of at least two pages."""
    first = -(-block // mmap.PAGESIZE) * mmap.PAGESIZE
    return first, (block + size - first) // mmap.PAGESIZE


def _set(glibc: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        glibc.mallopt(option, value)


@cache
def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    wanted = ("gnu_get_libc_version", "mallopt", "malloc_trim", "malloc", "free", "madvise", "mincore")
    if not all(hasattr(library, name) for name in wanted):
        return None
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.restype, library.free.argtypes = None, [ctypes.c_void_p]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    library.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    return library
