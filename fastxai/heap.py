"""The heap of the process under glibc: freed memory stays at hand, and long runs begin without holes in it.

Where there is no glibc, nothing here does anything.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

# glibc's options (malloc.h) and their values. The largest block that can come from memory at hand is fixed there.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST = 32 * 2**20
_KEPT = {_MMAP_THRESHOLD: _LARGEST, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20}
# What glibc comes to by itself in a process that has used blocks of that size: setting anything ends its adapting.
_USUAL = {_MMAP_THRESHOLD: _LARGEST, _TRIM_THRESHOLD: 2 * _LARGEST, _TOP_PAD: 128 * 2**10}
_SMALLEST_HOLE = 64 * 2**10
_HEADER = ctypes.sizeof(ctypes.c_size_t)  # before a block: its size, the lowest bits of which say where it is from
_MAPPED, _OTHER_ARENA = 2, 4

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


@contextmanager
def holes_filled() -> Iterator[None]:
    """Meanwhile no block is put into the free places of 64 KiB and more that lie between others in the main heap.

    Loading, timing and compiling a model leave hundreds of MiB of them. Blocks of a long run would come to lie in one
    and then in another, because a small block that stays has taken a bit of the first, and every page that they touch
    stays with the process: 10 to 40 KiB more for every picture. So the free places are taken, and nothing is written
    into them; blocks come from the end of the heap, where the same places are used again and again. To be entered
    within `freed_memory_kept`, by the thread that does the work. Only the main thread works in the main heap.
    """
    glibc = _glibc()
    if glibc is None:
        yield
        return
    taken = list[int]()
    try:
        with _holding:
            glibc.malloc_trim(0)
            glibc.mallopt(_MMAP_THRESHOLD, _SMALLEST_HOLE)  # what fits no hole is mapped, and so tells itself apart
            try:
                size = _LARGEST
                while size >= _SMALLEST_HOLE:
                    if block := _in_hole(glibc, size):
                        taken.append(block)
                    else:
                        size = size * 7 // 8
            finally:
                glibc.mallopt(_MMAP_THRESHOLD, _LARGEST)
        yield
    finally:
        for block in taken:
            glibc.free(block)


def _in_hole(glibc: ctypes.CDLL, size: int) -> int:
    """The address of a new block of `size` bytes that fills a hole of the main heap; 0 where it would not."""
    block = glibc.malloc(size)
    if not block:
        return 0
    if ctypes.c_size_t.from_address(block - _HEADER).value & (_MAPPED | _OTHER_ARENA):
        glibc.free(block)
        return 0
    return int(block)


def _set(glibc: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        glibc.mallopt(option, value)


@cache
def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    wanted = ("gnu_get_libc_version", "mallopt", "malloc_trim", "malloc", "free")
    if not all(hasattr(library, name) for name in wanted):
        return None
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.restype, library.free.argtypes = None, [ctypes.c_void_p]
    return library
