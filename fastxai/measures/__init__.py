"""Measures: what can be said about explanations in numbers."""

from fastxai.measures.agreement import Agreement, compare_masks, join_agreements
from fastxai.measures.summary import Summary, summarise

__all__ = ["Agreement", "Summary", "compare_masks", "join_agreements", "summarise"]
