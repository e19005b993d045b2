import pytest
import torch

from fastxai.errors import ArgumentError
from fastxai.targets import parse_targets

IDS = ["a", "b", "c"]
PROBABILITIES = torch.tensor([[0.1, 0.6, 0.3], [0.4, 0.4, 0.2], [0.0, 0.2, 0.8]])


def resolve(value, ids=IDS):
    rule = parse_targets(value, classes=3, ids=IDS)
    return rule.resolve(PROBABILITIES[: len(ids)], torch.tensor([2, -1, 0])[: len(ids)], ids).tolist()


def test_ranks_with_ties_by_class():
    assert resolve("top1") == [[1], [0], [2]]
    assert resolve("top3") == [[1, 2, 0], [0, 1, 2], [2, 1, 0]]


def test_labels_and_given_ids():
    assert resolve("label") == [[2], [-1], [0]]
    assert resolve(2) == resolve("2") == resolve(torch.tensor(2)) == [[2]] * 3
    assert resolve([0, 1, 2]) == [[0], [1], [2]]
    assert resolve(torch.tensor([[0, 1], [1, 2], [2, 0]])) == [[0, 1], [1, 2], [2, 0]]


def test_all_classes_in_their_order():
    assert resolve("all") == [[0, 1, 2]] * 3
    rule = parse_targets("all", classes=3, ids=IDS)
    assert (rule.count, rule.describe()) == (3, "all")


def test_rows_follow_ids_not_places():
    assert resolve([0, 1, 2], ids=["c", "a"]) == [[2], [0]]


def test_description_tells_tables_apart():
    first, second = (parse_targets(v, classes=3, ids=IDS).describe() for v in ([0, 1, 2], [0, 1, 1]))
    assert first != second
    assert parse_targets("top2", classes=3, ids=IDS).describe() == "top2"
    assert parse_targets(1, classes=3, ids=IDS).describe() == [1]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("top4", "between top1 and top3"),
        ("top0", "between top1 and top3"),
        ("best", "targets must be top1"),
        (3, "targets must be between 0 and 2, got 3"),
        ("-1", "targets must be between 0 and 2, got -1"),
        ([0, 1], "targets must hold ids for each of the 3 images"),
        ([0, 1, 3], "targets must be between 0 and 2, got 3"),
        ([0.5, 1, 2], "targets must be top1"),
        (None, "targets must be top1"),
        ([[], [], []], "targets must"),
    ],
)
def test_wrong_targets_are_refused(value, message):
    with pytest.raises(ArgumentError, match=message):
        parse_targets(value, classes=3, ids=IDS)
