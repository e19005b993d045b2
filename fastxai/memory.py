"""Running out of memory: how it is told from other errors, and what can be given back; and keeping memory at hand."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

# What torch raises as a plain RuntimeError: its allocator on the CPU, and CUDA libraries that allocate by themselves.
_SAID = ("DefaultCPUAllocator: can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, of a device or of the host (cupy's is a `MemoryError`)."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID)


def release(device: torch.device) -> None:
    """Give back what nobody uses. To be called when the error is gone: its traceback holds the tensors of the call."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif (glibc := _glibc()) is not None:
        glibc.malloc_trim(0)


# glibc's options (malloc.h) and their values. The largest block that can come from memory at hand is fixed there.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST = 32 * 2**20
_KEPT = {_MMAP_THRESHOLD: _LARGEST, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20}
# What glibc comes to by itself in a process that has used blocks of that size: setting anything ends its adapting.
_USUAL = {_MMAP_THRESHOLD: _LARGEST, _TRIM_THRESHOLD: 2 * _LARGEST, _TOP_PAD: 128 * 2**10}

_holders, _holding = 0, threading.Lock()


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Meanwhile memory that this process frees stays with it, for the next call of the model.

    glibc gives large blocks back to the system and gets them again at the next call, page by page: 25,000 pages, and
    60 to 75 of 440 ms, for the input gradients of eight rows of a compiled ResNet-50 on two cores. It holds for the
    whole process; at the end what is free is given back. Where there is no glibc, nothing is done.
    """
    global _holders
    glibc = _glibc()
    if glibc is None:
        yield
        return
    with _holding:
        _holders += 1
        if _holders == 1:
            for option, value in _KEPT.items():
                glibc.mallopt(option, value)
    try:
        yield
    finally:
        with _holding:
            _holders -= 1
            if _holders == 0:
                for option, value in _USUAL.items():
                    glibc.mallopt(option, value)
                glibc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    wanted = ("gnu_get_libc_version", "mallopt", "malloc_trim")
    return library if all(hasattr(library, name) for name in wanted) else None
