"""Coalitions, round by round, until the stand-in for each image's game is sure enough of what it reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastxai import ops, solve
from fastxai.explainers.base import Batch
from fastxai.explainers.coalition_task import CoalitionTask
from fastxai.explainers.rounds import AUTO, next_rows

if TYPE_CHECKING:
    from fastxai.explainers.kernel_shap import KernelShap
    from fastxai.explainers.lime import Lime


class SmoothTask(CoalitionTask):
    """Subclasses draw, name the functional, and say how far off a report may be.

    reports: of each image, made from all of its rows; an image's own rows alone decide them and when it is done.
    """

    def __init__(self, config: Lime | KernelShap, batch: Batch) -> None:
        super().__init__(config, batch)
        self.tolerance, self.most = config.tolerance, config.most
        self.reports: list[solve.Report | None] = [None] * len(batch)
        self._reported = [0] * len(batch)

    def functional(self, segments: int) -> solve.Functional:
        """What is reported of a game of so many segments."""
        raise NotImplementedError

    def error(self, report: solve.Report) -> float:
        """How far off the report may be, as a share of what it says: the largest of the targets."""
        raise NotImplementedError

    def wanted(self) -> list[int]:
        if self.samples != AUTO:
            return super().wanted()
        wanted = []
        for image, have in enumerate(self.have):
            report = self.report(image) if have else None
            wanted.append(next_rows(have, self.error(report) if report else 0.0, self.tolerance, self.most))
        return [min(rows, most) for rows, most in zip(wanted, self.all_of(self.most), strict=True)]

    def report(self, image: int) -> solve.Report | None:
        """From all rows read so far; None where the model's answers are not finite."""
        have = self.have[image]
        if self._reported[image] != have:
            self._reported[image] = have
            values = self.values[image, :have]
            segments = int(self.segments.counts[image])
            kept = ops.unpack(self.coalitions[image, :have], segments)
            fine = bool(torch.isfinite(values).all())
            self.reports[image] = solve.report_by_stand_in(kept, values, self.functional(segments)) if fine else None
        return self.reports[image]

    def gathered(self) -> tuple[Tensor, Tensor, Tensor]:
        """weights and stderr float32 [B, K, S], mean float32 [B, K], NaN where there is none."""
        images, targets = len(self.batch), self.values.shape[2]
        shape = (2, images, targets, int(self.segments.counts.max()))
        both = torch.full(shape, float("nan"), device=self.values.device)
        means = both.new_full((images, targets), float("nan"))
        for image in range(images):
            report = self.report(image)
            if report is not None:
                width = report.weights.shape[1]
                both[0, image, :, :width], both[1, image, :, :width] = report.weights, report.stderr
                means[image] = report.mean
        return both[0], both[1], means
