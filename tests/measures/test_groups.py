"""Groups of images: names, order, and each group's own summary."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest
import torch

from fastxai.errors import ArgumentError
from fastxai.measures import Groups, summarise
from fastxai.measures.groups import group_names

NAMES = ("cat", "dog", "owl")


def test_groups_are_named_after_classes() -> None:
    labels = torch.tensor([1, -1, 0, 7])
    assert group_names("label", labels, None, NAMES) == ["dog", "(none)", "cat", "7"]
    assert group_names("class", None, labels, None) == ["1", "(none)", "0", "7"]


@pytest.mark.parametrize("labels", [None, torch.tensor([-1, -1])])
def test_images_without_labels_have_no_groups(labels: torch.Tensor | None) -> None:
    with pytest.raises(ArgumentError, match="no image has a label"):
        group_names("label", labels, torch.tensor([0, 1]), NAMES)


def test_other_groups_are_refused() -> None:
    with pytest.raises(ArgumentError, match="by must be one of label, class, got 'colour'"):
        group_names("colour", torch.tensor([0]), torch.tensor([0]), NAMES)


def test_each_group_is_summarised_alone_best_first() -> None:
    names = ["cat", "owl", "cat", "dog", "owl", "cat"]
    iou = np.array([0.1, 0.9, 0.2, math.nan, 0.7, 0.6])
    groups = Groups.of("label", names, {"iou": iou, "dice": 2 * iou})
    assert dict(groups.images) == {"owl": 2, "cat": 3, "dog": 1}
    assert list(groups.images) == ["owl", "cat", "dog"]  # by mean IoU, without a value last
    assert groups["cat"]["iou"] == summarise(iou[[0, 2, 5]])
    assert groups["owl"]["dice"] == summarise(2 * iou[[1, 4]])
    assert groups["dog"]["iou"].count == 0
    data = json.loads(json.dumps(groups.to_dict(), allow_nan=False))
    assert data[1]["group"] == "cat"
    assert data[1]["iou"]["mean"] == groups["cat"]["iou"].mean
    assert data[2]["iou"]["mean"] is None
    read = list(csv.DictReader(io.StringIO(groups.to_csv())))
    assert [row["label"] for row in read] == ["owl", "cat", "dog"]
    assert float(read[1]["iou_mean"]) == groups["cat"]["iou"].mean
    assert read[2]["iou_low"] == ""
    lines = str(groups).splitlines()
    assert lines[0].split()[:2] == ["label", "images"]
    assert lines[2].split()[:3] == ["owl", "2", "0.8000"]
    with pytest.raises(ArgumentError, match="group must be one of owl, cat, dog"):
        groups["fish"]
