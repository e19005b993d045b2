"""Agreement on masks whose overlap is known, and the shapes it can be read in."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
import torch

from fastxai.errors import ArgumentError
from fastxai.measures import Agreement, compare_masks


def masks() -> tuple[torch.Tensor, torch.Tensor]:
    """Three images of 4 pixels: half shared, nothing shared, both empty."""
    a = torch.tensor([[[1, 1], [0, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]]).bool()
    b = torch.tensor([[[1, 0], [0, 0]], [[0, 1], [1, 0]], [[0, 0], [0, 0]]]).bool()
    return a, b


def compared(**options: object) -> Agreement:
    return compare_masks(["cat.png", "birds/owl.png", "void"], "lime", "gradcam", *masks(), **options)  # type: ignore[arg-type]


def test_known_overlaps() -> None:
    found = compared()
    assert found.iou.dtype == found.dice.dtype == torch.float64
    assert found.iou[:2].tolist() == [1 / 2, 0.0]
    assert found.dice[:2].tolist() == [2 / 3, 0.0]
    assert math.isnan(found.iou[2])
    assert math.isnan(found.dice[2])
    assert found.mean == found.median == 0.25
    assert found.iou_summary.count == 2
    assert found.interval is not None
    assert 0 <= found.interval[0] <= 0.25 <= found.interval[1] <= 0.5
    assert found.notes == ("", "", "the mask of lime is empty; the mask of gradcam is empty")


def test_naive_twin_on_random_masks() -> None:
    generator = torch.Generator().manual_seed(3)
    a, b = (torch.rand(7, 9, 11, generator=generator) < share for share in (0.3, 0.6))
    found = compare_masks([str(i) for i in range(7)], "x", "y", a, b)
    for index in range(7):
        one, two = (set(m[index].flatten().nonzero().flatten().tolist()) for m in (a, b))
        assert found.iou[index] == len(one & two) / len(one | two)
        assert found.dice[index] == 2 * len(one & two) / (len(one) + len(two))


def test_identical_masks_agree_fully() -> None:
    a = masks()[0][:2]
    found = compare_masks(["1", "2"], "x", "y", a, a)
    assert found.iou.tolist() == found.dice.tolist() == [1.0, 1.0]
    assert found.interval == (1.0, 1.0)


def test_rows_dict_and_csv_hold_the_same_numbers() -> None:
    found = compared(notes=["only 7 of 10 segments are positive", "", ""])
    rows = found.rows()
    assert rows[0] == {"image": "cat.png", "iou": 0.5, "dice": 2 / 3, "note": "only 7 of 10 segments are positive"}
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["images"][2]["iou"] is None
    assert data["iou"]["count"] == 2
    assert data["confidence"] == 0.95
    assert data["iou"]["interval"] == list(found.interval or ())
    read = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [row["image"] for row in read] == ["cat.png", "birds/owl.png", "void"]
    assert float(read[0]["dice"]) == 2 / 3
    assert read[2]["iou"] == ""


def test_the_table_is_aligned() -> None:
    lines = str(compared()).splitlines()
    assert lines[0] == "lime against gradcam: 3 images"
    assert lines[2].startswith("image")
    assert "note" in lines[2]
    numbers = [line for line in lines if line.startswith(("cat.png", "birds", "mean", "median"))]
    ends = {line.split("  the mask")[0].rstrip().__len__() for line in numbers}
    assert len(numbers) == 4
    assert len(ends) == 1
    assert any(line.startswith("95% interval of the mean") for line in lines)
    assert not any(line != line.rstrip() for line in lines)


def test_the_table_survives_hostile_and_wide_ids() -> None:
    a, b = (mask[:2] for mask in masks())
    text = str(compare_masks(["\x1b[2Jx\ny", "猫" * 80], "lime", "gradcam", a, b))
    assert "\x1b" not in text
    assert "\\x1b[2Jx\\ny" in text
    assert "…" in text
    assert len(text.splitlines()) == 10  # title, blank, head, rule, two images, rule, three feet
    assert text.splitlines()[-3].startswith("mean")


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_have_no_interval(count: int) -> None:
    a, b = (mask[:count] for mask in masks())
    found = compare_masks(["one"] * count, "x", "y", a, b)
    assert found.interval is None
    assert math.isnan(found.mean) == (count == 0)
    assert json.dumps(found.to_dict(), allow_nan=False)
    assert str(found).splitlines()[-1].split()[-2:] == ["-", "-"]


@pytest.mark.parametrize(
    ("a", "b", "ids", "message"),
    [
        (torch.zeros(1, 2, 2), torch.zeros(1, 2, 2).bool(), ["i"], "a must be bool"),
        (torch.zeros(1, 2, 2).bool(), torch.zeros(2, 2).bool(), ["i"], "b must be bool"),
        (torch.zeros(1, 2, 2).bool(), torch.zeros(1, 2, 3).bool(), ["i"], "same 1 images"),
        (torch.zeros(1, 2, 2).bool(), torch.zeros(1, 2, 2).bool(), ["i", "j"], "same 2 images"),
    ],
)
def test_masks_that_do_not_fit_are_refused(a: torch.Tensor, b: torch.Tensor, ids: list[str], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        compare_masks(ids, "x", "y", a, b)


def test_notes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ArgumentError, match="notes must be one for each of 3 images, got 1"):
        compared(notes=["x"])
