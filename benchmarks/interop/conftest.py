"""What the benchmarks of `fastxai.interop` share: the embedded model as other tools take it, and a photograph.

Each measures a call of a tool's own class (the peer), the same call of ours, and bare reads of as many rows by the open
model (the limit): once in float32, for a plain module, once as a `fastxai.Model` with `precision="auto"` has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.timing import Call
from fastxai.bench.peers.subject import normalized, plain_copy
from fastxai.interop._kept import KeptModel
from fastxai.models import InputGradients, Model, Scores, load_model
from fastxai.segments import Quickshift
from fastxai.types import Settings


@dataclass(frozen=True)
class Subject:
    """A float32 module, what our classes are given in its place, and a picture.

    picture uint8 [224, 224, 3]; inputs float32 [1, 3, 224, 224]; labels int64 [224, 224], quickshift; layer: that CAM
    methods look at, of so many channels.
    """

    form: str
    module: nn.Module
    given: Any
    model: Model
    picture: np.ndarray
    inputs: Tensor
    labels: np.ndarray
    layer: str
    channels: int

    @property
    def mask(self) -> Tensor:
        return torch.from_numpy(self.labels).to(self.inputs.device)[None, None]

    def bare(self, rows: int, gradients: bool = False) -> Call:
        """Reads of so many rows that are there already."""
        kept, ready = KeptModel(self.given), self.inputs.expand(rows, -1, -1, -1)
        targets = torch.zeros(rows, 1, dtype=torch.int64)
        probe = InputGradients() if gradients else Scores("logit")
        return lambda: kept.read(probe, ready, lambda session, a, b: ready[a:b], lambda classes: targets, rows)

    def check(self, ours: Tensor, theirs: Tensor) -> None:
        """The same answer: to rounding in float32, to some percent in half precision."""
        error = float((ours - theirs).norm() / theirs.norm())
        assert error < (1e-3 if self.form == "fp32" else 0.15), error


@pytest.fixture(params=["fp32", "auto"])
def subject(request: pytest.FixtureRequest, device: torch.device) -> Subject:
    from skimage import data

    model = load_model("embedded", device=device.type, precision=request.param, compile=False)
    picture = np.ascontiguousarray(data.cat()[30:254, 100:324])
    module = plain_copy(model.module, device)
    pixels = torch.from_numpy(picture.transpose(2, 0, 1).copy())[None].to(device)
    labels = np.asarray(Quickshift().label(picture, "cat"), np.int64)
    with model.open(Settings(device=str(device))) as session:
        layer = session.cam_layer()
        channels = session.map_shape(layer)[0]
    given = module if request.param == "fp32" else model
    return Subject(request.param, module, given, model, picture, normalized(model, pixels), labels, layer, channels)
