"""Pictures and coalitions -> model inputs, in one pass: the innermost loop of LIME and KernelSHAP.

    out[r, c, y, x] = normalise(keep ? pictures[b, c, y, x] : fill[c])      b = image[r], s = labels[b, y, x],
    keep = bit s & 31 of coalitions[r, s >> 5]                              normalise(v) = (v / 255 - mean) / std

The fast forms move bit patterns only: what a pixel value or a fill becomes in the output type is looked up in small
tables that the torch expression itself has made, so all forms agree exactly.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fastxai.errors import ArgumentError
from fastxai.ops import _cuda
from fastxai.ops._bits import unpack
from fastxai.ops._checks import (
    check_devices,
    check_index,
    check_labels,
    check_moments,
    check_tensor,
    choose,
    default_for,
)
from fastxai.ops._numba import ParallelLoop, prange
from fastxai.ops.normalize import normalize_values

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
TILE = 1024  # of the CPU loop: pixels that a job prepares once for all its rows, small enough for the first cache
ROWS_A_BLOCK = 16  # of the CUDA kernel: how many rows share the reads of one picture


def compose_rows(
    pictures: Tensor,
    labels: Tensor,
    coalitions: Tensor,
    image: Tensor,
    fill: Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
    channels_last: bool = True,
    implementation: str | None = None,
) -> Tensor:
    """Masked copies of pictures, as the model reads them.

    pictures uint8 [B, C, H, W] (pixels) or float32 (model input already); labels int32 [B, H, W]; coalitions int32
    [R, W] packed bits of the segments kept; image int64 [R] in 0..B-1, which may be on the CPU (on a GPU, a check
    of an index that is there has to wait for it); fill float32 [C], or [B, S, C] for one colour per segment, in the
    units of the pictures (0..255 for uint8); mean, std: of the normalisation, unused for float32 pictures.
    Returns [R, C, H, W] of `dtype` (float32, float16 or bfloat16), in channels_last memory format or contiguous.
    """
    sizes: dict[str, int] = {}
    check_tensor("pictures", pictures, (torch.uint8, torch.float32), "B C H W", sizes)
    check_tensor("labels", labels, (torch.int32,), "B H W", sizes)
    check_tensor("coalitions", coalitions, (torch.int32,), "R words", sizes)
    check_tensor("image", image, (torch.int64,), "R", sizes)
    check_tensor("fill", fill, (torch.float32,), "B S C" if fill.dim() == 3 else "C", sizes)
    device = check_devices(pictures=pictures, labels=labels, coalitions=coalitions, fill=fill)
    if image.device.type != "cpu":
        check_devices(pictures=pictures, image=image)
    if dtype not in DTYPES:
        raise ArgumentError(f"dtype must be float32, float16 or bfloat16, got {dtype}")
    check_index("image", image, sizes["B"])
    check_labels(labels, 32 * sizes["words"], "bits of a coalition")
    if fill.dim() == 3:
        check_labels(labels, sizes["S"], "colours of fill")
    if pictures.dtype == torch.uint8:
        check_moments(mean, std, sizes["C"])
    chosen = choose(implementation, default_for(device, cpu="numba", cuda="cuda"), ("torch", "numba", "cuda"))
    image = image.to(device, non_blocking=True)
    if chosen == "torch":
        return _torch(pictures, labels, coalitions, image, fill, mean, std, dtype, channels_last)

    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape = (sizes["R"], sizes["C"], sizes["H"], sizes["W"])
    out = torch.empty(shape, dtype=dtype, device=device, memory_format=layout)
    if out.numel():
        run = _numba if chosen == "numba" else _kernel
        run(out, pictures, labels.contiguous(), coalitions.contiguous(), image.contiguous(), fill, mean, std)
    return out


def _torch(
    pictures: Tensor,
    labels: Tensor,
    coalitions: Tensor,
    image: Tensor,
    fill: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    """The reference: where, normalise, cast."""
    rows, height, width = image.shape[0], *labels.shape[1:]
    label = labels[image].long()  # [R, H, W]
    kept = unpack(coalitions, 32 * coalitions.shape[1])
    kept = kept.gather(1, label.reshape(rows, height * width)).reshape(rows, 1, height, width)
    if fill.dim() == 1:
        filled = fill[None, :, None, None]
    else:
        filled = fill[image[:, None, None], label].permute(0, 3, 1, 2)  # [R, C, H, W]
    values = torch.where(kept, pictures[image].float(), filled)
    if pictures.dtype == torch.uint8:
        values = normalize_values(values, mean, std, axis=1)
    return values.to(dtype).contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


@functools.lru_cache(maxsize=32)
def _pixel_table(mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """What the pixel values 0..255 become: `dtype` [C, 256]."""
    levels = torch.arange(256, dtype=torch.float32, device=device).expand(len(mean), 256)
    return normalize_values(levels, mean, std, axis=0).to(dtype).contiguous()


def _tables(
    pictures: Tensor, fill: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Everything in output type: pictures (uint8, or cast), pixel table [C, 256], fill [C] or [B, S, C]."""
    if pictures.dtype == torch.uint8:
        table = _pixel_table(tuple(mean), tuple(std), dtype, pictures.device)
        fill = normalize_values(fill, mean, std, axis=-1)
    else:
        table = torch.empty(pictures.shape[1], 0, dtype=dtype, device=pictures.device)
        pictures = pictures.to(dtype)
    return pictures.contiguous(), table, fill.to(dtype).contiguous()


def _bits(tensor: Tensor) -> Tensor:
    """Floats seen as the integers of their bit patterns."""
    if tensor.dtype == torch.uint8:
        return tensor
    return tensor.view(torch.int16 if tensor.element_size() == 2 else torch.int32)


def _numba(
    out: Tensor,
    pictures: Tensor,
    labels: Tensor,
    coalitions: Tensor,
    image: Tensor,
    fill: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    rows, channels, height, width = out.shape
    pictures, table, fill = _tables(pictures, fill, mean, std, out.dtype)
    batch, pixels = pictures.shape[0], height * width
    last = out.is_contiguous(memory_format=torch.channels_last)
    flat = out.permute(0, 2, 3, 1) if last else out
    arguments = [
        _bits(flat).reshape(rows, pixels * channels),
        _bits(pictures).reshape(batch, channels, pixels),
        labels.reshape(batch, pixels),
        coalitions,
        image,
        _bits(fill).reshape(-1, fill.shape[-2] if fill.dim() == 3 else 1, channels),
        _bits(table),
    ]
    words = np.empty(0, np.uint16 if out.element_size() == 2 else np.uint32)
    arrays = (tensor.numpy() for tensor in arguments)
    _select(*arrays, words, pictures.dtype == torch.uint8, fill.dim() == 3, last)


def _kernel(
    out: Tensor,
    pictures: Tensor,
    labels: Tensor,
    coalitions: Tensor,
    image: Tensor,
    fill: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    rows, channels, height, width = out.shape
    pictures, table, fill = _tables(pictures, fill, mean, std, out.dtype)
    length = channels * height * width  # of one row, in elements
    vector = next(v for v in (16 // out.element_size(), 4, 2, 1) if length % v == 0)
    block = 128
    _cuda.launch(
        "compose_rows",
        "compose_rows",
        defines={
            "ELEMENT_BYTES": out.element_size(),
            "VECTOR": vector,
            "CHANNELS": channels,
            "CHANNELS_LAST": int(out.is_contiguous(memory_format=torch.channels_last)),
            "TABLE": int(pictures.dtype == torch.uint8),
            "FILL_PER_SEGMENT": int(fill.dim() == 3),
            "ROWS_A_BLOCK": ROWS_A_BLOCK,
        },
        grid=(-(-length // (vector * block)), -(-rows // ROWS_A_BLOCK), 1),
        block=(block, 1, 1),
        arguments=(
            out,
            pictures,
            labels,
            coalitions,
            image,
            fill,
            table,
            np.int32(rows),
            np.int32(height * width),
            np.int32(coalitions.shape[1]),
            np.int32(fill.shape[-2] if fill.dim() == 3 else 1),
        ),
    )


@ParallelLoop
def _select(out, pictures, labels, coalitions, image, fill, table, words, use_table, per_segment, last):  # type: ignore[no-untyped-def]
    """out [R, pixels * C] (last: channels last) or [R, C * pixels]; pictures [B, C, pixels]; fill [B or 1, S or 1, C].

    Up to 16 neighbouring rows of one picture share what a tile of it becomes, kept and hidden, and one word an element
    whose bit t says whether row t keeps it: what is left for each row is a choice that runs at the width of vectors.
    words: empty, unsigned, of the width of `out`; its type is what counts.
    """
    rows, channels, pixels = out.shape[0], pictures.shape[1], pictures.shape[2]
    bits = 32 * coalitions.shape[1]
    begin = np.empty(rows + 1, np.int64)  # the first row of each group
    groups = 0
    for r in range(rows):
        if r == 0 or image[r] != image[r - 1] or r - begin[groups - 1] == 16:
            begin[groups] = r
            groups += 1
    begin[groups] = rows
    kept = np.zeros((groups, bits), words.dtype)
    for g in prange(groups):
        for t in range(begin[g + 1] - begin[g]):
            for s in range(bits):
                kept[g, s] |= ((coalitions[begin[g] + t, s >> 5] >> (s & 31)) & 1) << t

    tiles = (pixels + TILE - 1) // TILE
    for job in prange(groups * tiles):
        g, start = job // tiles, job % tiles * TILE
        own = min(TILE, pixels - start)
        b = image[begin[g]]
        bit = np.empty(1, words.dtype)
        label, colour = labels[b, start : start + own], fill[b if per_segment else 0]
        planes = 1 if last else channels
        step = channels if last else 1
        word = np.empty(own * step, words.dtype)
        for p in range(own):
            for c in range(step):
                word[p * step + c] = kept[g, label[p]]
        shown, hidden = np.empty(own * step, out.dtype), np.empty(own * step, out.dtype)
        for plane in range(planes):
            for c in range(step):
                channel = plane + c
                picture, levels = pictures[b, channel, start : start + own], table[channel]
                for p in range(own):
                    shown[p * step + c] = levels[picture[p]] if use_table else picture[p]
                    hidden[p * step + c] = colour[label[p] if per_segment else 0, channel]
            at = plane * pixels + start * step
            for t in range(begin[g + 1] - begin[g]):
                bit[0] = 1 << t
                mask = bit[0]
                row = out[begin[g] + t, at : at + own * step]
                for j in range(row.shape[0]):
                    keep, value, other = word[j] & mask, shown[j], hidden[j]  # loads before the choice: no branch
                    row[j] = value if keep else other
