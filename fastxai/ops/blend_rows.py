"""Pictures, masks and fills -> model inputs, in one pass: the innermost loop of RISE.

    out[r, c, y, x] = m picture[b, c, y, x] + (1 - m) fill[b, c]        b = image[r], m = masks[r, y, x]

Every step rounds to float32 in the order of the formula, then once to the output type, so that the forms agree exactly.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastxai.errors import ArgumentError
from fastxai.ops._checks import check_devices, check_index, check_tensor, choose, default_for
from fastxai.ops._numba import ParallelLoop, prange
from fastxai.ops.compose_rows import DTYPES


def blend_rows(
    pictures: Tensor,
    masks: Tensor,
    image: Tensor,
    fill: Tensor,
    *,
    dtype: torch.dtype,
    implementation: str | None = None,
) -> Tensor:
    """Copies of pictures that fade into a colour where their mask falls, as the model reads them.

    pictures float32 [B, C, H, W] (model input); masks float32 [R, H, W], 1 shows the picture and 0 the fill; image
    int64 [R] in 0..B-1, which may be on the CPU; fill float32 [B, C], in the units of the pictures. Returns
    [R, C, H, W] of `dtype` (float32, float16 or bfloat16), in channels_last memory format.
    """
    sizes: dict[str, int] = {}
    check_tensor("pictures", pictures, (torch.float32,), "B C H W", sizes)
    check_tensor("masks", masks, (torch.float32,), "R H W", sizes)
    check_tensor("image", image, (torch.int64,), "R", sizes)
    check_tensor("fill", fill, (torch.float32,), "B C", sizes)
    device = check_devices(pictures=pictures, masks=masks, fill=fill)
    if image.device.type != "cpu":
        check_devices(pictures=pictures, image=image)
    if dtype not in DTYPES:
        raise ArgumentError(f"dtype must be float32, float16 or bfloat16, got {dtype}")
    check_index("image", image, sizes["B"])
    chosen = choose(implementation, default_for(device, cpu="numba"), ("torch", "numba"))
    image = image.to(device, non_blocking=True)
    if chosen == "torch":
        return _torch(pictures, masks, image, fill, dtype)

    shape = (sizes["R"], sizes["H"], sizes["W"], sizes["C"])
    half = dtype == torch.bfloat16
    out = torch.empty(shape, dtype=dtype if half else torch.float32)
    if out.numel():
        seen = out.view(torch.int16).numpy().view(np.uint16) if half else out.numpy()
        arrays = (tensor.contiguous().numpy() for tensor in (pictures, masks, image, fill))
        _blend(seen, *arrays, half)
    return out.to(dtype).permute(0, 3, 1, 2)


def _torch(pictures: Tensor, masks: Tensor, image: Tensor, fill: Tensor, dtype: torch.dtype) -> Tensor:
    """The reference."""
    share = masks.unsqueeze(1)
    values = share * pictures[image] + (1.0 - share) * fill[image].reshape(*fill[image].shape, 1, 1)
    return values.to(dtype).contiguous(memory_format=torch.channels_last)


@ParallelLoop
def _blend(out, pictures, masks, image, fill, half):  # type: ignore[no-untyped-def]
    """out [R, H, W, C], the bits of bfloat16 with `half`, else float32; pictures [B, C, H, W]; masks [R, H, W]."""
    rows, height, width, channels = out.shape
    one = np.float32(1.0)
    for job in prange(rows * height):
        r, y = job // height, job % height
        b = image[r]
        line, mask = np.empty(width * channels, np.float32), masks[r, y]
        if channels == 3:  # one loop with constant steps, which compilers turn into vectors
            red, green, blue = pictures[b, 0, y], pictures[b, 1, y], pictures[b, 2, y]
            red_fill, green_fill, blue_fill = fill[b, 0], fill[b, 1], fill[b, 2]
            for x in range(width):
                m = mask[x]
                rest = one - m
                line[3 * x] = m * red[x] + rest * red_fill
                line[3 * x + 1] = m * green[x] + rest * green_fill
                line[3 * x + 2] = m * blue[x] + rest * blue_fill
        else:
            for c in range(channels):
                picture, colour = pictures[b, c, y], fill[b, c]
                for x in range(width):
                    line[x * channels + c] = mask[x] * picture[x] + (one - mask[x]) * colour
        row = out[r, y].reshape(width * channels)
        if half:  # round to the nearest, ties to even; NaN stays one
            bits = line.view(np.uint32)
            for j in range(row.shape[0]):
                word = bits[j]
                rounded = (word + np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
                row[j] = np.uint16(rounded) if line[j] == line[j] else np.uint16(0x7FC0)
        else:
            for j in range(row.shape[0]):
                row[j] = line[j]
