"""The names of the explainers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastxai.config import Registry
from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.explainers.base import Explainer
from fastxai.plugins import EXPLAINERS as GROUP

EXPLAINERS = Registry(
    "explainer",
    {
        "lime": "fastxai.explainers.lime:Lime",
        "kernel-shap": "fastxai.explainers.kernel_shap:KernelShap",
        "gradient-shap": "fastxai.explainers.gradient_shap:GradientShap",
        "expected-gradients": "fastxai.explainers.expected_gradients:ExpectedGradients",
        "integrated-gradients": "fastxai.explainers.integrated_gradients:IntegratedGradients",
        "saliency": "fastxai.explainers.saliency:Saliency",
        "input-x-gradient": "fastxai.explainers.input_x_gradient:InputXGradient",
        "smoothgrad": "fastxai.explainers.smoothgrad:SmoothGrad",
        "occlusion": "fastxai.explainers.occlusion:Occlusion",
        "rise": "fastxai.explainers.rise:Rise",
        "random": "fastxai.explainers.random_maps:Random",
        "gradcam": "fastxai.explainers.gradcam:GradCam",
        "gradcam-plus-plus": "fastxai.explainers.gradcam_plus_plus:GradCamPlusPlus",
        "hirescam": "fastxai.explainers.hirescam:HiResCam",
        "layercam": "fastxai.explainers.layercam:LayerCam",
        "xgradcam": "fastxai.explainers.xgradcam:XGradCam",
        "eigencam": "fastxai.explainers.eigencam:EigenCam",
        "scorecam": "fastxai.explainers.scorecam:ScoreCam",
        "ablationcam": "fastxai.explainers.ablationcam:AblationCam",
    },
    GROUP,
)


def as_explainers(value: Any) -> tuple[Explainer, ...]:
    """Explainers from configurations or names, one or several; two of one name are refused."""
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    found = []
    for item in items:
        explainer = EXPLAINERS.parse(item) if isinstance(item, str) else item
        if not isinstance(explainer, Explainer):
            raise ArgumentTypeError(f"explainers must be configurations like fx.Lime(), got {type(item).__name__}")
        found.append(explainer)
    if not found:
        raise ArgumentError("explainers must hold at least one, got none")
    names = [explainer.name for explainer in found]
    for name in names:
        if names.count(name) > 1:
            raise ArgumentError(f"explainers must have different names, got {name!r} twice: set name=")
    return tuple(found)
