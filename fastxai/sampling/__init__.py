"""Random draws, keyed by (seed, image, method) and a row number: never by a place in a batch.

Room for a sampler: one file for each kind of row (coalitions, path points, smooth masks).
"""

from fastxai.sampling.coalitions import (
    bernoulli_coalitions,
    lime_coalitions,
    pack,
    paired_coalitions,
    segments_kept,
    word_count,
)
from fastxai.sampling.keys import stream_keys
from fastxai.sampling.masks import GridMasks
from fastxai.sampling.paths import path_draws, pixel_normals, pixel_uniforms
from fastxai.sampling.shapley import shapley_coalitions, shapley_sizes

__all__ = [
    "GridMasks",
    "bernoulli_coalitions",
    "lime_coalitions",
    "pack",
    "paired_coalitions",
    "path_draws",
    "pixel_normals",
    "pixel_uniforms",
    "segments_kept",
    "shapley_coalitions",
    "shapley_sizes",
    "stream_keys",
    "word_count",
]
