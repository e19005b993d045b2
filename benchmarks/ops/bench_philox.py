"""random_words against torch's own generator, which draws in one stream and cannot be keyed by row."""

from __future__ import annotations

import torch

from fastxai.ops import random_words


def test_random_words(measure, device):
    rows, words = (32_000, 2) if device.type == "cpu" else (1_000_000, 8)
    images = rows // 1000
    keys = torch.randint(0, 2**32, (images, 2), generator=torch.Generator().manual_seed(0)).to(device)
    image, ordinal = torch.arange(images).repeat_interleave(1000), torch.arange(1000).repeat(images)
    image, ordinal = image.to(device), ordinal.to(device)
    out = random_words(keys, image, ordinal, words, 0)
    sample = slice(0, None, 97)
    wanted = random_words(keys, image[sample], ordinal[sample], words, 0, implementation="torch")
    assert torch.equal(out[sample], wanted)
    measure(
        "random_words",
        f"{rows} rows x {words} words",
        lambda: random_words(keys, image, ordinal, words, 0),
        peer=("randint", lambda: torch.randint(-(2**31), 2**31 - 1, out.shape, dtype=torch.int32, device=device)),
        limit=("fill_ of the output", lambda: out.fill_(1)),
    )
