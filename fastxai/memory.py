"""Running out of memory: how it is told from other errors, and what can be given back."""

from __future__ import annotations

import gc

import torch

from fastxai.heap import give_back

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
    else:
        give_back()
