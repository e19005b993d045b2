"""bf16 products by float32 ones, for looking at bf16's rounding on a CPU that multiplies no bf16.

Such instructions (AMX-BF16, AVX512-BF16) multiply bf16 numbers exactly, sum in float32 and round the result once.
Widening the inputs, multiplying in float32 and rounding gives the same numbers up to the order of sums, at about the
speed of float32: torch's own way without the instructions is 30 to 50 times slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

# What convolutions and linear layers come to, forwards and backwards.
PRODUCTS = ("convolution", "convolution_backward", "addmm", "mm", "baddbmm", "bmm")


@contextmanager
def widened_products() -> Iterator[None]:
    """In all threads, eager bf16 products on the CPU are float32 ones of the same numbers, rounded; others as ever."""
    library = torch.library.Library("aten", "IMPL")
    try:
        for name in PRODUCTS:
            library.impl(name, _widened(name), "CPU", with_keyset=True)
        yield
    finally:
        library._destroy()


def _widened(name: str) -> Any:
    kernel = torch.library.get_kernel(f"aten::{name}", "CPU")

    def product(keys: Any, *args: Any, **options: Any) -> Any:
        if not any(isinstance(arg, Tensor) and arg.dtype == torch.bfloat16 for arg in args):
            return kernel.call_boxed(keys, *args, **options)
        found = kernel.call_boxed(keys, *(arg.float() if isinstance(arg, Tensor) else arg for arg in args), **options)
        if isinstance(found, Tensor):
            return found.bfloat16()
        return tuple(None if part is None else part.bfloat16() for part in found)

    return product
