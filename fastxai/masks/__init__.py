"""Masks: maps made binary by a stated rule, so that two methods can be compared."""

from fastxai.masks.rule import MaskRule
from fastxai.masks.rules import at_least, positive_segments, top_fraction, top_segments

__all__ = ["MaskRule", "at_least", "positive_segments", "top_fraction", "top_segments"]
