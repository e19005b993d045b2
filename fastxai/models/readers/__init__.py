"""How each probe is read from a model at work, a file a probe; and predictions, which may record layers."""

from fastxai.models.readers.derivatives import DerivativeReader
from fastxai.models.readers.gradients import GradientReader
from fastxai.models.readers.injected import InjectedReader
from fastxai.models.readers.predictions import Predictor
from fastxai.models.readers.scores import ScoreReader

__all__ = ["DerivativeReader", "GradientReader", "InjectedReader", "Predictor", "ScoreReader"]
