"""Superpixels: configurations that turn a picture into labels 0..S-1, and the pass that labels a batch.

Room for a segmenter: one configuration class in `segmenters.py`, its name in `SEGMENTERS`.
"""

from fastxai.segments.base import SEGMENTERS, Segmenter, as_segmenter
from fastxai.segments.batch import segment_batch
from fastxai.segments.ready import Labels
from fastxai.segments.segmenters import Felzenszwalb, Grid, Quickshift, Slic

__all__ = [
    "SEGMENTERS",
    "Felzenszwalb",
    "Grid",
    "Labels",
    "Quickshift",
    "Segmenter",
    "Slic",
    "as_segmenter",
    "segment_batch",
]
