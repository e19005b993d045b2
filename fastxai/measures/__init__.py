"""Measures: what can be said about explanations in numbers."""

from fastxai.measures.agreement import Agreement, compare_masks
from fastxai.measures.agreements import Agreements
from fastxai.measures.comparing import Comparing, Slice
from fastxai.measures.groups import Groups
from fastxai.measures.question import MEASURES, USUAL, Question, ask
from fastxai.measures.relations import Relation, relate
from fastxai.measures.sides import Answers, Superpixels
from fastxai.measures.summary import Summary, summarise
from fastxai.measures.traits import TRAITS, colour_entropy, edge_density

__all__ = [
    "MEASURES",
    "TRAITS",
    "USUAL",
    "Agreement",
    "Agreements",
    "Answers",
    "Comparing",
    "Groups",
    "Question",
    "Relation",
    "Slice",
    "Summary",
    "Superpixels",
    "ask",
    "colour_entropy",
    "compare_masks",
    "edge_density",
    "relate",
    "summarise",
]
