"""Explainers: one small file each, on the protocol of `base.py`. No loops over rows here: the engine owns them.

Room for a method: a file with a frozen configuration and its task, and its name in `EXPLAINERS`.
"""

from fastxai.explainers.base import Batch, Block, Explainer, Task, shows_maps
from fastxai.explainers.gradcam import GradCam
from fastxai.explainers.gradient_shap import GradientShap
from fastxai.explainers.kernel_shap import KernelShap
from fastxai.explainers.keyed_gradient_shap import KeyedGradientShap
from fastxai.explainers.lime import Lime
from fastxai.explainers.registry import EXPLAINERS, as_explainers

__all__ = [
    "EXPLAINERS",
    "Batch",
    "Block",
    "Explainer",
    "GradCam",
    "GradientShap",
    "KernelShap",
    "KeyedGradientShap",
    "Lime",
    "Task",
    "as_explainers",
    "shows_maps",
]
