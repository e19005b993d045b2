"""Figures, the HTML report and notebook views of explanations. The only room that loads matplotlib."""

from fastxai.report.comparison import Comparison
from fastxai.report.drawn import save
from fastxai.report.four_panels import four_panels
from fastxai.report.html import Written, write_report
from fastxai.report.lime_steps import lime_steps, most_influential
from fastxai.report.maps import write_maps
from fastxai.report.options import ReportOptions
from fastxai.report.panels import panel, write_panels
from fastxai.report.scatter import scatter
from fastxai.report.shap_steps import shap_steps

__all__ = [
    "Comparison",
    "ReportOptions",
    "Written",
    "four_panels",
    "lime_steps",
    "most_influential",
    "panel",
    "save",
    "scatter",
    "shap_steps",
    "write_maps",
    "write_panels",
    "write_report",
]
