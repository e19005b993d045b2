"""Explainers: one small file each, on the protocol of `base.py`. No loops over rows here: the engine owns them.

Room for a method: a file with a frozen configuration and its task, and its name in `EXPLAINERS`.
"""

from fastxai.explainers.ablationcam import AblationCam
from fastxai.explainers.base import Batch, Block, Explainer, Task, shows_maps
from fastxai.explainers.eigencam import EigenCam
from fastxai.explainers.expected_gradients import ExpectedGradients
from fastxai.explainers.gradcam import GradCam
from fastxai.explainers.gradcam_plus_plus import GradCamPlusPlus
from fastxai.explainers.gradient_shap import GradientShap
from fastxai.explainers.hirescam import HiResCam
from fastxai.explainers.input_x_gradient import InputXGradient
from fastxai.explainers.integrated_gradients import IntegratedGradients
from fastxai.explainers.kernel_shap import KernelShap
from fastxai.explainers.keyed_gradient_shap import KeyedGradientShap
from fastxai.explainers.layercam import LayerCam
from fastxai.explainers.lime import Lime
from fastxai.explainers.occlusion import Occlusion
from fastxai.explainers.random_maps import Random
from fastxai.explainers.registry import EXPLAINERS, as_explainers
from fastxai.explainers.rise import Rise
from fastxai.explainers.saliency import Saliency
from fastxai.explainers.scorecam import ScoreCam
from fastxai.explainers.smoothgrad import SmoothGrad
from fastxai.explainers.xgradcam import XGradCam

__all__ = [
    "EXPLAINERS",
    "AblationCam",
    "Batch",
    "Block",
    "EigenCam",
    "ExpectedGradients",
    "Explainer",
    "GradCam",
    "GradCamPlusPlus",
    "GradientShap",
    "HiResCam",
    "InputXGradient",
    "IntegratedGradients",
    "KernelShap",
    "KeyedGradientShap",
    "LayerCam",
    "Lime",
    "Occlusion",
    "Random",
    "Rise",
    "Saliency",
    "ScoreCam",
    "SmoothGrad",
    "Task",
    "XGradCam",
    "as_explainers",
    "shows_maps",
]
