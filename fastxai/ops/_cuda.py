"""How the kernels in `kernels/*.cu` are found, compiled by CuPy and launched on torch's tensors and stream."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastxai.errors import ArgumentError, CannotRun, MissingExtra

Triple = tuple[int, int, int]


def launch(
    stem: str,
    kernel: str,
    *,
    defines: Mapping[str, int],
    grid: Triple,
    block: Triple,
    arguments: Sequence[Tensor | np.generic],
) -> None:
    """Run `kernel` of `kernels/<stem>.cu` on the current stream of torch.

    Tensors become raw pointers (contiguous memory is the caller's business), numbers must be numpy scalars of the
    size that the kernel declares: a plain int would be passed as 8 bytes, unnoticed. The call does not wait.
    """
    device = next(argument.device for argument in arguments if isinstance(argument, Tensor))
    for argument in arguments:
        if isinstance(argument, Tensor) and (argument.device != device or device.type != "cuda"):
            raise ArgumentError(f"tensors of kernel {kernel} must be on one CUDA device, got {argument.device}")
        if not isinstance(argument, (Tensor, np.generic)):
            raise ArgumentError(f"numbers of kernel {kernel} must be sized numpy scalars, got {argument!r}")
    if grid[1] > 65535 or grid[2] > 65535:
        raise ArgumentError(f"grid of kernel {kernel} must have at most 65535 blocks on axes y and z, got {grid}")
    cupy = import_cupy()
    index = device.index if device.index is not None else torch.cuda.current_device()
    stream = torch.cuda.current_stream(index)
    raw = tuple(np.uintp(a.data_ptr()) if isinstance(a, Tensor) else a for a in arguments)
    with cupy.cuda.Device(index), cupy.cuda.ExternalStream(stream.cuda_stream, index):
        module = _module(stem, tuple(sorted(defines.items())), index)
        module.get_function(kernel)(grid, block, raw)


def import_cupy() -> Any:
    """CuPy, or `MissingExtra` naming the extra that fits torch's CUDA. There is no silent fallback."""
    try:
        import cupy
    except ImportError as error:
        raise MissingExtra("work on an NVIDIA GPU", extra_name()) from error
    return cupy


def extra_name() -> str:
    """The extra that brings the CuPy for torch's CUDA version."""
    return f"cuda{(torch.version.cuda or '12').partition('.')[0]}"


@functools.lru_cache(maxsize=256)
def _module(stem: str, defines: tuple[tuple[str, int], ...], device: int) -> Any:
    """The compiled source; per device, because CuPy loads it into the current one."""
    return import_cupy().RawModule(code=kernel_source(stem), options=compile_options(dict(defines)), backend="nvrtc")


def compile_options(defines: Mapping[str, int]) -> tuple[str, ...]:
    """Options for NVRTC: the language, and one `#define` per constant. No contraction: results match the reference."""
    return ("-std=c++17", "--fmad=false", *(f"-D{name}={value}" for name, value in sorted(defines.items())))


def kernel_source(stem: str) -> str:
    return (kernel_folder() / f"{stem}.cu").read_text(encoding="utf-8")


def kernel_folder(package: Path | None = None) -> Path:
    """The folder of the kernel sources: `fastxai/_kernels` in a wheel, else `kernels` beside the package.

    `package` is the folder of the package, this one by default.
    """
    package = package or Path(__file__).resolve().parent.parent
    for folder in (package / "_kernels", package.parent / "kernels"):
        if (folder / "compose_rows.cu").is_file():
            return folder
    raise CannotRun(f"the CUDA sources are missing beside {package}: install fastxai again")
