"""Figures of explanations, from results in hand or from a run. The only room that loads matplotlib."""

from fastxai.report.comparison import Comparison
from fastxai.report.drawn import save
from fastxai.report.four_panels import four_panels
from fastxai.report.lime_steps import lime_steps, most_influential
from fastxai.report.maps import write_maps
from fastxai.report.panels import panel, write_panels
from fastxai.report.scatter import scatter
from fastxai.report.shap_steps import shap_steps

__all__ = [
    "Comparison",
    "four_panels",
    "lime_steps",
    "most_influential",
    "panel",
    "save",
    "scatter",
    "shap_steps",
    "write_maps",
    "write_panels",
]
