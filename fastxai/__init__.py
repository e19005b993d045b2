"""Explain every image of a data set with LIME, SHAP and Grad-CAM, at the speed of the model itself.

The public names are below; each is imported when it is first used, so that `import fastxai` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastxai._version import __version__

if TYPE_CHECKING:
    from fastxai.compare import agreement
    from fastxai.errors import ArgumentError, CannotRun
    from fastxai.explainers import (
        EXPLAINERS,
        AblationCam,
        EigenCam,
        ExpectedGradients,
        GradCam,
        GradCamPlusPlus,
        GradientShap,
        HiResCam,
        InputXGradient,
        IntegratedGradients,
        KernelShap,
        LayerCam,
        Lime,
        Occlusion,
        Random,
        Rise,
        Saliency,
        ScoreCam,
        SmoothGrad,
        XGradCam,
    )
    from fastxai.faithfulness import (
        MEASURES,
        Aopc,
        Deletion,
        Faithfulness,
        Infidelity,
        Insertion,
        MuFidelity,
        Sanity,
        SensitivityN,
        Stability,
    )
    from fastxai.images import open_source
    from fastxai.masks import MaskRule
    from fastxai.models import Model, load_model
    from fastxai.overlap import Stopped
    from fastxai.pipeline import explain, run
    from fastxai.results import Found
    from fastxai.scoring import read_scores, score, write_scores
    from fastxai.segments import Felzenszwalb, Grid, Labels, Quickshift, Slic
    from fastxai.store import export_run, open_run, verify
    from fastxai.types import Preprocess, Progress, Settings, Status

__all__ = [
    "__version__",
    "load_model",
    "Model",
    "Preprocess",
    "Settings",
    "open_source",
    "explain",
    "run",
    "open_run",
    "export_run",
    "verify",
    "agreement",
    "MaskRule",
    "score",
    "write_scores",
    "read_scores",
    "Found",
    "Faithfulness",
    "Status",
    "Progress",
    "EXPLAINERS",
    "KernelShap",
    "Lime",
    "GradientShap",
    "ExpectedGradients",
    "IntegratedGradients",
    "Saliency",
    "InputXGradient",
    "SmoothGrad",
    "GradCam",
    "AblationCam",
    "EigenCam",
    "GradCamPlusPlus",
    "HiResCam",
    "LayerCam",
    "Occlusion",
    "Random",
    "Rise",
    "ScoreCam",
    "XGradCam",
    "MEASURES",
    "Deletion",
    "Insertion",
    "Aopc",
    "SensitivityN",
    "MuFidelity",
    "Infidelity",
    "Sanity",
    "Stability",
    "Quickshift",
    "Slic",
    "Felzenszwalb",
    "Grid",
    "Labels",
    "ArgumentError",
    "CannotRun",
    "Stopped",
]

_PLACES = {
    "fastxai.compare": ("agreement",),
    "fastxai.errors": ("ArgumentError", "CannotRun"),
    "fastxai.explainers": (
        "EXPLAINERS",
        "AblationCam",
        "EigenCam",
        "ExpectedGradients",
        "GradCam",
        "GradCamPlusPlus",
        "GradientShap",
        "HiResCam",
        "InputXGradient",
        "IntegratedGradients",
        "KernelShap",
        "LayerCam",
        "Lime",
        "Occlusion",
        "Random",
        "Rise",
        "Saliency",
        "ScoreCam",
        "SmoothGrad",
        "XGradCam",
    ),
    "fastxai.masks": ("MaskRule",),
    "fastxai.results": ("Found",),
    "fastxai.faithfulness": (
        "MEASURES",
        "Aopc",
        "Deletion",
        "Faithfulness",
        "Infidelity",
        "Insertion",
        "MuFidelity",
        "Sanity",
        "SensitivityN",
        "Stability",
    ),
    "fastxai.images": ("open_source",),
    "fastxai.models": ("Model", "load_model"),
    "fastxai.overlap": ("Stopped",),
    "fastxai.pipeline": ("explain", "run"),
    "fastxai.scoring": ("read_scores", "score", "write_scores"),
    "fastxai.segments": ("Felzenszwalb", "Grid", "Labels", "Quickshift", "Slic"),
    "fastxai.store": ("export_run", "open_run", "verify"),
    "fastxai.types": ("Preprocess", "Progress", "Settings", "Status"),
}
_PLACE_OF = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _PLACE_OF:
        raise AttributeError(f"module 'fastxai' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
