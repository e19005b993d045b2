"""What a run costs once, before its steady state."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, replace

import torch

from fastxai.bench.cases import Case
from fastxai.models import InputGradients, Model, calibrate
from fastxai.models.runner import waves
from fastxai.types import Settings

_IMPORTS = "import fastxai.pipeline, fastxai.explainers.gradient_shap, fastxai.explainers.lime, fastxai.models"


@dataclass(frozen=True)
class Startup:
    """Seconds: of importing (a new Python, with its own start), loading the model (0 for one in hand), calibrating
    (trial compilations included), opening the model, and compiling it."""

    imports: float
    load: float
    calibration: float
    opening: float
    compilation: float

    @property
    def total(self) -> float:
        return self.imports + self.load + self.calibration + self.opening + self.compilation

    def to_dict(self) -> dict[str, float]:
        return {**vars(self), "total": self.total}


def import_seconds() -> float:
    """Of a new interpreter that imports what a run needs."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", _IMPORTS], check=True, timeout=600, capture_output=True)
    return time.perf_counter() - start


def calibrated(model: Model, case: Case, images: int, layers: tuple[str, ...]) -> tuple[Settings, float]:
    """Settings as a run over `images` pictures would settle them, and the seconds that took."""
    start = time.perf_counter()
    rows = {"predict": 1, **case.explainer.row_count(case.classes)}
    kinds = {kind: count * images for kind, count in rows.items() if count}
    settings = calibrate(model, kinds=kinds, targets=case.classes, layers=layers)
    return settings, time.perf_counter() - start


def open_and_compile(model: Model, settings: Settings, classes: int) -> tuple[float, float]:
    """Seconds to open the model, and those that compiling for `classes` adds.

    Torch's cache on disk makes a second time shorter.
    """

    def opening(of: Settings) -> float:
        start = time.perf_counter()
        with model.open(of) as session:
            if "gradients" in of.compile:  # compiled when first read
                inputs = waves((of.rows["gradients"], model.preprocess.channels, *model.preprocess.size))
                ready, targets = inputs.to(session.dtype), torch.zeros(len(inputs), classes).long()
                with session.at_work("gradients") as work:
                    work.submit(lambda: session.read(InputGradients(), ready, targets))()
            return time.perf_counter() - start

    eager = opening(replace(settings, compile=()))
    return eager, max(0.0, opening(settings) - eager) if settings.compile else 0.0
