"""The shapes of other tools: results handed over to code that was written for them.

Room for a tool: one file each, which imports the tool only when used.
"""

from fastxai.interop.lime import to_lime
from fastxai.interop.shap import to_shap

__all__ = ["to_lime", "to_shap"]
