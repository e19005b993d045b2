"""Models: what is explained, loaded from anywhere, and the one place that runs it.

`Model` describes a classifier (module, preprocessing as data, classes, output). `Model.open(settings)` gives a
`Session` on a private copy, which reads probes. `calibrate` settles precision and rows a chunk beforehand.
"""

from __future__ import annotations

from fastxai.models.calibrate import calibrate
from fastxai.models.load import load_model
from fastxai.models.model import Model
from fastxai.models.probes import (
    DirectionalDerivatives,
    InjectedScores,
    InputGradients,
    Prediction,
    Probe,
    Reading,
    Recording,
    Scores,
    pack_directions,
    pack_injections,
)
from fastxai.models.randomised import randomised
from fastxai.models.session import Session

__all__ = [
    "DirectionalDerivatives",
    "InjectedScores",
    "InputGradients",
    "Model",
    "Prediction",
    "Probe",
    "Reading",
    "Recording",
    "Scores",
    "Session",
    "calibrate",
    "load_model",
    "pack_directions",
    "pack_injections",
    "randomised",
]
