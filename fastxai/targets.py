"""Which classes are explained: K a picture, by rank, by label or by name of the caller."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastxai.config import check_int
from fastxai.errors import ArgumentError, ArgumentTypeError


@dataclass(frozen=True)
class Targets:
    """A rule for targets: `rank` the K best classes, `all` of them in order, `label` the picture's own, `fixed` ids.

    table int64 [N, K] holds given ids, by image id in `rows`; one row for all images where `rows` is empty.
    """

    kind: str
    count: int
    table: Tensor | None = None
    rows: dict[str, int] | None = None

    def resolve(self, probabilities: Tensor, labels: Tensor, ids: Sequence[str]) -> Tensor:
        """Targets int64 [P, K] of P pictures: probabilities float32 [P, classes], labels int64 [P] (-1 unknown).

        -1 where a picture has no target.
        """
        if self.kind == "rank":
            return ranked(probabilities, self.count)
        if self.kind == "all":
            return torch.arange(self.count, device=probabilities.device).repeat(len(probabilities), 1)
        if self.kind == "label":
            known = (labels >= 0) & (labels < probabilities.shape[1])
            return torch.where(known, labels, -1).to(probabilities.device).unsqueeze(1)
        assert self.table is not None
        picked = [self.rows[i] for i in ids] if self.rows is not None else [0] * len(ids)
        return self.table[picked].to(probabilities.device)

    def describe(self) -> Any:
        """As plain data, for run.json."""
        if self.kind == "fixed":
            assert self.table is not None
            if self.rows is None:
                return self.table[0].tolist()
            summed = hashlib.blake2b("\n".join(self.rows).encode(), digest_size=16)
            summed.update(self.table.numpy().tobytes())
            return {"ids": list(self.table.shape), "digest": summed.hexdigest()}
        return f"top{self.count}" if self.kind == "rank" else self.kind


def ranked(probabilities: Tensor, count: int) -> Tensor:
    """The `count` most probable classes, best first, ties by class number: int64 [P, count]."""
    return probabilities.sort(dim=1, descending=True, stable=True).indices[:, :count]


def parse_targets(value: Any, *, classes: int, ids: Sequence[str]) -> Targets:
    """A rule from "top1", "top5", "topK", "all", "label", one class id, or ids [N] or [N, K] in source order.

    Raises `ArgumentError` for a rank or id beyond the model's classes, or a wrong number of rows.
    """
    forms = "targets must be top1, top5, topK, all, label, a class id, or ids [N] or [N, K]"
    if isinstance(value, str):
        if value == "label":
            return Targets("label", 1)
        if value == "all":
            return Targets("all", classes)
        if re.fullmatch(r"top\d+", value):
            rank = int(value[3:])
            if not 1 <= rank <= classes:
                raise ArgumentError(f"targets must be between top1 and top{classes} for this model, got {value!r}")
            return Targets("rank", rank)
        if not re.fullmatch(r"-?\d+", value):
            raise ArgumentError(f"{forms}, got {value!r}")
        value = int(value)
    if hasattr(value, "__index__") and not hasattr(value, "shape"):
        check_int("targets", value, 0, classes - 1)
        return Targets("fixed", 1, torch.tensor([[int(value)]]))
    try:
        table = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentTypeError(f"{forms}, got {type(value).__name__}") from error
    if table.is_floating_point() or table.dtype in (torch.bool, torch.complex64) or table.dim() > 2 or not len(ids):
        raise ArgumentTypeError(f"{forms}, got a {table.dtype} of shape {list(table.shape)}")
    if table.dim() == 0:
        return parse_targets(int(table), classes=classes, ids=ids)
    table = table.to(torch.int64)
    table = table.unsqueeze(1) if table.dim() == 1 else table
    if len(table) != len(ids) or table.shape[1] == 0:
        raise ArgumentError(f"targets must hold ids for each of the {len(ids)} images, got {list(table.shape)}")
    low, high = int(table.min()), int(table.max())
    if low < 0 or high >= classes:
        raise ArgumentError(f"targets must be between 0 and {classes - 1}, got {low if low < 0 else high}")
    return Targets("fixed", int(table.shape[1]), table, {image_id: row for row, image_id in enumerate(ids)})
