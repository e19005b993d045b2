"""The shapes of other tools, in and out.

Code that was written for a tool runs with its import line changed: `fastxai.interop.captum`, `.lime` and
`.pytorch_grad_cam` hold classes with the tools' own signatures and answers, read by our engine; `.quantus` an
`explain_func`. Results of ours become the tools' objects: `to_lime`, `to_shap`.

Room for a tool: one file each, which imports the tool only when used.
"""

from fastxai.interop._to_lime import to_lime
from fastxai.interop.shap import to_shap

__all__ = ["to_lime", "to_shap"]
