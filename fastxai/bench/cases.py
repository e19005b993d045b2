"""Cases: one explainer at a number of classes, and the rows that it needs of the model."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastxai.errors import ArgumentError
from fastxai.explainers import Explainer, as_explainers

SAMPLED_CLASSES = 10  # of "all"
IMAGES, IMAGES_WITHOUT_ROWS = 16, 64


@dataclass(frozen=True)
class Need:
    """What one image needs of the model beside finding its classes: `rows` of the probe `kind`.

    kind "predict": the prediction pass itself, with the gradient back to the recorded layer.
    """

    kind: str
    rows: int


@dataclass(frozen=True)
class Case:
    """One explainer for the `classes` most probable classes. `sampled`: they stand for all classes of the model."""

    explainer: Explainer
    classes: int = 1
    sampled: bool = False

    @property
    def targets(self) -> str:
        """As `fastxai.run` takes them."""
        return f"top{self.classes}"

    @property
    def samples(self) -> int | None:
        """Rows an image that the method is configured to draw; None where it draws none."""
        return getattr(self.explainer, "samples", None)

    @property
    def need(self) -> Need:
        """The rows that the method cannot do without: its gradients, or else its scores, or else one prediction.

        End points for a convergence delta, and the prediction that finds the classes, are left out: they are work of
        ours that the limit does not grant.
        """
        rows = self.explainer.row_count(self.classes)
        for kind in ("gradients", "scores"):
            if rows.get(kind):
                return Need(kind, rows[kind])
        return Need("predict", 1)

    def images(self, asked: int | None) -> int:
        """Pictures of the measured stream."""
        if asked is not None:
            return asked
        return IMAGES_WITHOUT_ROWS if self.need.kind == "predict" else IMAGES

    def within(self, classes: int) -> Case:
        """The same for a model of so many classes: a sample of all of them is at most all of them.

        `ArgumentError` where more are to be explained than there are.
        """
        if self.sampled:
            return dataclasses.replace(self, classes=min(self.classes, classes))
        if self.classes > classes:
            raise ArgumentError(f"targets must be between top1 and top{classes} for this model, got {self.targets!r}")
        return self


def make_cases(
    explainers: Any, targets: Sequence[str] = ("top1",), samples: int | None = None
) -> tuple[list[Case], list[dict[str, str]]]:
    """Every explainer at every number of classes, and what is left out, with the reason.

    explainers: configurations or names. targets: "topK", "all" or "all:N" (N classes as a sample of all of them; only
    where a class costs a backward pass, elsewhere left out). samples: instead of the methods' own, where they draw.
    """
    found = as_explainers(explainers)
    if samples is not None:
        found = tuple(
            dataclasses.replace(e, samples=samples) if hasattr(e, "samples") else e  # type: ignore[call-arg]
            for e in found
        )
    if not targets:
        raise ArgumentError("targets must hold at least one, got none")
    cases, left_out = [], []
    for explainer in found:
        for text in dict.fromkeys(targets):
            case = _case(explainer, text)
            if case.sampled and case.need.kind != "gradients":
                reason = f"a class more costs {explainer.method} no pass of the model: top1 says it all"
                left_out.append({"what": f"{explainer.name} for all classes", "why": reason})
            else:
                cases.append(case)
    if not cases:
        raise ArgumentError("targets must leave something to measure: all is for methods that read gradients")
    return cases, left_out


def _case(explainer: Explainer, text: str) -> Case:
    if match := re.fullmatch(r"top([1-9]\d*)", text):
        return Case(explainer, int(match[1]))
    if match := re.fullmatch(r"all(?::([1-9]\d*))?", text):
        return Case(explainer, int(match[1] or SAMPLED_CLASSES), sampled=True)
    raise ArgumentError(f"targets must be top1, top5, topK, all or all:N (a sample of N classes), got {text!r}")
