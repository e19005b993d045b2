"""Masks: maps made binary by a stated rule, so that two methods can be compared."""

from fastxai.masks.rules import positive_segments, top_fraction, top_segments

__all__ = ["positive_segments", "top_fraction", "top_segments"]
