"""The heap of the process under glibc: freed memory stays at hand, and memory is the same from picture to picture.

Where there is no glibc, nothing of this is done.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import threading
import time
from collections.abc import Iterator
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
_SMALLEST_HOLE = 64 * 2**10
# Sizes of small places to keep free in a heap, and how many of each; about 3 MiB.
_SMALL = {**dict.fromkeys(range(32, 1024, 16), 32), **dict.fromkeys(range(1024, 16 * 2**10, 1024), 8)}
_EVERY = 20.0  # seconds between two times that a settled heap gives back
_HEADER = ctypes.sizeof(ctypes.c_size_t)  # before a block: its size, the lowest bits of which say where it is from
_MAPPED = 2  # the system, for this block alone
_DONTNEED = 4  # of madvise(2)


class _Info(ctypes.Structure):
    """What `mallinfo2` says: ten numbers, the last of which is the size of the main heap's free end."""

    _fields_ = [("others", ctypes.c_size_t * 9), ("keepcost", ctypes.c_size_t)]


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
    try:
        yield
    finally:
        with _holding:
            _holders -= 1
            if _holders == 0:
                _set(glibc, _USUAL)
                glibc.malloc_trim(0)


class SteadyHeap:
    """Memory that is the same from batch to batch: the context of a long run, within `freed_memory_kept`.

    Loading, timing and compiling a model leave free places between blocks that stay, in the heap of every thread that
    took part. Later blocks would come to lie in one and then in another of them, because some small block has taken a
    bit of the first, and every page that they touch stays with the process: 10 to 40 KiB more for every picture.
    """

    def __init__(self) -> None:
        self._taken, self._next = list[int](), 0.0
        self._end = 0  # bytes that batches use at the end of the main heap

    def __enter__(self) -> SteadyHeap:
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
        """To be called by every thread of the run before its work: it leaves older free places in its heap alone.

        Those of 64 KiB and more are taken and their pages given back to the system, so that blocks come from the end of
        the heap; and small ones are made, so that small blocks that stay do not come to lie among large ones.
        """
        if (glibc := _glibc()) is not None:
            self._taken += _filled(glibc, _SMALLEST_HOLE if self._next else _LARGEST)

    def settle(self) -> None:
        """To be called after every batch.

        From the first on heaps grow no more for large blocks: what fits no free place gets memory of its own from the
        system, and gives it back. The main heap keeps as much of its end as the first batch used; what it has grown by
        for small blocks since, 64 MiB at a time, is given back now and then, before large ones use it.
        """
        now = time.monotonic()
        if (glibc := _glibc()) is not None and now >= self._next:
            with _holding:
                glibc.mallopt(_MMAP_THRESHOLD, _SMALLEST_HOLE)  # this also joins free places, the end with those before
                if not self._next:
                    self._end = _used_end(glibc)
                glibc.malloc_trim(self._end)
            self._next = now + _EVERY


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
            size = _LARGEST
            while size >= _SMALLEST_HOLE:
                if block := _in_hole(glibc, size):
                    yield block
                else:
                    size = size * 7 // 8
        finally:
            glibc.mallopt(_MMAP_THRESHOLD, threshold)
    free = list[int]()
    for size, count in _SMALL.items():
        for _ in range(count):
            free.append(glibc.malloc(size - _HEADER))
            yield glibc.malloc(1)  # keeps free places from growing together
    for block in free:
        glibc.free(block)


def _used_end(glibc: ctypes.CDLL) -> int:
    """Bytes of the main heap's free end up to the last page of it that is in memory."""
    if not hasattr(glibc, "mallinfo2"):  # before 2.33: what it may at most have in advance
        return _KEPT[_TOP_PAD]
    free, end = int(glibc.mallinfo2().keepcost), int(glibc.sbrk(0))
    first = -(-(end - free) // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = (ctypes.c_ubyte * max(0, -(-(end - first) // mmap.PAGESIZE)))()
    if not pages or glibc.mincore(first, end - first, pages) != 0:
        return free  # it is not at the end of the data segment
    used = np.flatnonzero(np.asarray(pages) & 1)
    return first + (int(used[-1]) + 1) * mmap.PAGESIZE - (end - free) if len(used) else 0


def _in_hole(glibc: ctypes.CDLL, size: int) -> int:
    """The address of a new block of `size` bytes in a free place, none of its pages in memory; 0 where none fits."""
    block = int(glibc.malloc(size) or 0)
    if block and ctypes.c_size_t.from_address(block - _HEADER).value & _MAPPED:
        glibc.free(block)
        return 0
    if block:
        first, end = -(-block // mmap.PAGESIZE) * mmap.PAGESIZE, (block + size) // mmap.PAGESIZE * mmap.PAGESIZE
        glibc.madvise(first, end - first, _DONTNEED)
    return block


def _set(glibc: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        glibc.mallopt(option, value)


@cache
def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    wanted = ("gnu_get_libc_version", "mallopt", "malloc_trim", "malloc", "free", "madvise", "mincore", "sbrk")
    if not all(hasattr(library, name) for name in wanted):
        return None
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.restype, library.free.argtypes = None, [ctypes.c_void_p]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    library.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    library.malloc_trim.argtypes = [ctypes.c_size_t]
    library.sbrk.restype, library.sbrk.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t]
    if hasattr(library, "mallinfo2"):
        library.mallinfo2.restype = _Info
    return library
