"""Explainers: one small file each, on the protocol of `base.py`. No loops over rows here: the engine owns them.

Room for a method: a file with a frozen configuration and its task, and its name in `EXPLAINERS`.
"""

from fastxai.explainers.base import Batch, Block, Explainer, Task, shows_maps
from fastxai.explainers.expected_gradients import ExpectedGradients
from fastxai.explainers.gradcam import GradCam
from fastxai.explainers.gradient_shap import GradientShap
from fastxai.explainers.input_x_gradient import InputXGradient
from fastxai.explainers.integrated_gradients import IntegratedGradients
from fastxai.explainers.keyed_gradient_shap import KeyedGradientShap
from fastxai.explainers.lime import Lime
from fastxai.explainers.occlusion import Occlusion
from fastxai.explainers.random_maps import Random
from fastxai.explainers.registry import EXPLAINERS, as_explainers
from fastxai.explainers.rise import Rise
from fastxai.explainers.saliency import Saliency
from fastxai.explainers.smoothgrad import SmoothGrad

__all__ = [
    "EXPLAINERS",
    "Batch",
    "Block",
    "ExpectedGradients",
    "Explainer",
    "GradCam",
    "GradientShap",
    "InputXGradient",
    "IntegratedGradients",
    "KeyedGradientShap",
    "Lime",
    "Occlusion",
    "Random",
    "Rise",
    "Saliency",
    "SmoothGrad",
    "Task",
    "as_explainers",
    "shows_maps",
]
