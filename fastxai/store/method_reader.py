"""One method of a run, read when it is indexed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastxai.errors import ArgumentError
from fastxai.explainers import Explainer, shows_maps
from fastxai.results import MethodResult
from fastxai.store.dataset import DataSet

if TYPE_CHECKING:
    from fastxai.store.reader import Run


class MethodReader:
    """An integer gives one image's `MethodResult`, a slice that of several."""

    def __init__(self, run: Run, explainer: Explainer) -> None:
        self.run, self.explainer = run, explainer

    def __len__(self) -> int:
        return len(self.run)

    def __repr__(self) -> str:
        return f"<{self.explainer.name} of {len(self)} images in {str(self.run.path)!r}>"

    def __iter__(self) -> Iterator[MethodResult]:
        return (self[position] for position in range(len(self)))

    def __getitem__(self, index: int | slice) -> MethodResult:
        if isinstance(index, slice):
            return self.at(np.arange(*index.indices(len(self))))
        position = range(len(self))[index]
        return self.at(np.array([position]))[0]

    def at(self, positions: NDArray[np.int64]) -> MethodResult:
        """The images at these positions of the run. What a compact run left out is rebuilt."""
        if not len(positions):
            raise ArgumentError(f"images must be at least one of {len(self)}, got none")
        run, explainer = self.run, self.explainer
        labels, counts = self._segments(positions)
        data: dict[str, Tensor] = {}
        missing = []
        for field in explainer.fields():
            spec = DataSet(f"{explainer.name}/{field.name}", field.dtype, field.dims)
            if spec.path in run.layout.data_sets:
                values = torch.from_numpy(run.gather(spec, positions))
                if spec.ragged and counts is not None:
                    # Shards pad to their own longest; what is read is as long as its longest, wherever it lay.
                    values = values.narrow(1 + spec.dims.index("segment"), 0, max(1, int(counts.max())))
                data[field.name] = values
            else:
                missing.append(field.name)
        size = run.config.preprocess.size
        if not shows_maps(run.config.targets_per_image):
            missing = []  # the result rebuilds them when they are looked at
        rebuilt = {name: explainer.rebuild(name, data, labels, size) for name in missing}
        every = data | rebuilt
        ordered = {field.name: every[field.name] for field in explainer.fields() if field.name in every}
        return MethodResult(explainer, ordered, labels, counts, size)

    def _segments(self, positions: NDArray[np.int64]) -> tuple[Tensor | None, Tensor | None]:
        layout = self.run.layout
        group = layout.segments_of(self.explainer)
        if group is None:
            return None, None
        labels = self.run.gather(layout.data_sets[f"{group}/labels"], positions)
        counts = self.run.gather(layout.data_sets[f"{group}/count"], positions)
        return torch.from_numpy(labels.astype(np.int32)), torch.from_numpy(counts.astype(np.int64))
