"""Figures, the HTML report and notebook views of explanations. The only room that loads matplotlib."""

from fastxai.report.comparison import Comparison
from fastxai.report.html import Written, write_report
from fastxai.report.options import ReportOptions
from fastxai.report.panels import panel, write_panels

__all__ = ["Comparison", "ReportOptions", "Written", "panel", "write_panels", "write_report"]
