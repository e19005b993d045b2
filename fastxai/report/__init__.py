"""Figures of explanations, from results in hand or from a run. The only room that loads matplotlib."""

from fastxai.report.comparison import Comparison
from fastxai.report.maps import write_maps
from fastxai.report.panels import panel, write_panels

__all__ = ["Comparison", "panel", "write_maps", "write_panels"]
