"""Which form each op takes on a device, for people."""

from __future__ import annotations

import importlib.util

import torch

from fastxai.ops._cuda import extra_name

# op -> form and reason on the CPU, form and reason on an NVIDIA GPU
_FORMS = {
    "add_rows_": ("torch", "adds in row order", "torch", "adds in row order"),
    "blend_rows": ("numba", "one pass over the output", "torch", "a few passes over the output"),
    "compose_rows": ("numba", "one pass over the output", "cuda", "one pass over the output"),
    "normalize": ("torch", "runs once an image", "torch", "runs once an image"),
    "overlap": ("torch", "counts of booleans", "torch", "counts of booleans"),
    "paint": ("torch", "one gather", "torch", "one gather"),
    "quickshift": ("numba", "each pair of pixels once, in vectors", "cuda", "a thread a pixel, nothing stored a pair"),
    "random_words": ("numba", "one pass, no 64-bit intermediates", "cuda", "one pass, no 64-bit intermediates"),
    "rank_mask": ("torch", "one stable sort", "torch", "one stable sort"),
    "segment_mean": ("torch", "one scatter, once an image", "torch", "one scatter, once an image"),
    "slic": ("numba", "distances in vectors", "cuda", "a thread a pixel, all pictures side by side"),
    "upsample": ("torch", "one interpolation", "torch", "one interpolation"),
    "weighted_gram": (
        "numba",
        "packed bits, fixed order of summation",
        "cuda",
        "packed bits, fixed order of summation",
    ),
}
# What has no torch form
_ELSEWHERE = {"slic": "scikit-image: one picture after the other, on the CPU"}


def implementations(device: str | torch.device = "cpu") -> dict[str, str]:
    """op -> "form: reason" on `device`, including what is missing there."""
    device = torch.device(device)
    forms = {}
    for op, (cpu, cpu_reason, cuda, cuda_reason) in _FORMS.items():
        if device.type == "cpu":
            forms[op] = f"{cpu}: {cpu_reason}" + _missing(cpu)
        elif device.type == "cuda" and torch.version.cuda is not None:
            forms[op] = f"{cuda}: {cuda_reason}" + _missing(cuda)
        else:
            forms[op] = _ELSEWHERE.get(op, f"torch: no kernels for {device.type}")
    return forms


def _missing(form: str) -> str:
    needed = {"numba": ("numba", "fastxai"), "cuda": ("cupy", f"fastxai[{extra_name()}]")}.get(form)
    if needed is None or importlib.util.find_spec(needed[0]) is not None:
        return ""
    return f" (not usable: pip install '{needed[1]}')"
