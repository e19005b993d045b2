"""Surrogates: from coalitions and the model's answers to one number per segment.

Room for a solver: one file for each surrogate.
"""

from fastxai.solve.kernels import cosine_kernel
from fastxai.solve.ridge import Ridge, weighted_ridge

__all__ = ["Ridge", "cosine_kernel", "weighted_ridge"]
