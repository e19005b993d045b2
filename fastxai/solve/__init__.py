"""Surrogates: from coalitions and the model's answers to one number per segment.

Room for a solver: one file for each surrogate.
"""

from fastxai.solve.functionals import Functional, LimeCoefficients, ShapleyValues
from fastxai.solve.kernels import SegmentMoments, cosine_kernel, end_point_weights, image_kernel
from fastxai.solve.lasso import weighted_lasso
from fastxai.solve.process import Report
from fastxai.solve.ridge import Ridge, weighted_ridge
from fastxai.solve.shapley import shapley_regression
from fastxai.solve.stand_in import report_by_stand_in

__all__ = [
    "Functional",
    "LimeCoefficients",
    "Report",
    "Ridge",
    "SegmentMoments",
    "ShapleyValues",
    "cosine_kernel",
    "end_point_weights",
    "image_kernel",
    "report_by_stand_in",
    "shapley_regression",
    "weighted_lasso",
    "weighted_ridge",
]
