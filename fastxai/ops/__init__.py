"""The one seam to the hardware: one file per operation, with its contract, its checks and all its forms.

Every op takes and gives torch tensors and picks its form by the device they are on: a plain torch reference that is
kept for good, a numba loop where torch is slow on the CPU, a CUDA kernel on NVIDIA GPUs. Nothing above this room
imports numba or CuPy, and importing it loads neither.
"""

from __future__ import annotations

from fastxai.ops._bits import unpack
from fastxai.ops._implementations import implementations
from fastxai.ops.add_rows import add_rows_
from fastxai.ops.blend_rows import blend_rows
from fastxai.ops.compose_rows import compose_rows
from fastxai.ops.normalize import normalize
from fastxai.ops.overlap import overlap
from fastxai.ops.paint import paint
from fastxai.ops.philox import normals, random_words, uniforms
from fastxai.ops.quickshift import quickshift
from fastxai.ops.rank_mask import rank_mask
from fastxai.ops.segment_mean import segment_mean
from fastxai.ops.slic import slic
from fastxai.ops.upsample import upsample
from fastxai.ops.weighted_gram import Moments, weighted_gram

__all__ = [
    "Moments",
    "add_rows_",
    "blend_rows",
    "compose_rows",
    "implementations",
    "normalize",
    "normals",
    "overlap",
    "paint",
    "quickshift",
    "random_words",
    "rank_mask",
    "segment_mean",
    "slic",
    "uniforms",
    "unpack",
    "upsample",
    "weighted_gram",
]
