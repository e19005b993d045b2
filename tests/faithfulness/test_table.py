import csv
import io
import json
import math

import numpy as np
import pytest

from fastxai.errors import ArgumentError
from fastxai.faithfulness import Faithfulness
from fastxai.faithfulness.table import Column, Points


@pytest.fixture
def table() -> Faithfulness:
    generator = np.random.default_rng(0)
    noise = generator.normal(size=20)
    apart = generator.uniform(0.1, 0.3, size=20)
    fall = np.stack([noise - apart, noise + apart, noise + generator.normal(size=20), noise], axis=1)
    fall[3, 0] = math.nan
    fall[:, 2] = np.where(np.arange(20) < 1, fall[:, 2], math.nan)
    return Faithfulness(
        ids=tuple(f"{i}.png" for i in range(20)),
        methods=("good", "bad", "rare", "random"),
        reference="random",
        values={"deletion": fall, "insertion": fall.copy()},
        columns={"deletion": Column("lower", "area"), "insertion": Column("higher", "other area")},
        measures=({"method": "deletion"}, {"method": "insertion"}),
        curves={"deletion": Points((0.0, 1.0), {"good": (1.0, math.nan)})},
        left_out={"x.png": "broken"},
        about={"seed": 3},
    )


def test_differences_are_paired(table):
    """A spread of the images far larger than the difference does not hide it."""
    found = table.difference("deletion", "good")
    values = table.of("deletion", "good") - table.of("deletion", "random")
    assert found.count == 19  # the image without a value counts in neither
    assert found.mean == pytest.approx(np.nanmean(values))
    assert -0.3 < found.interval[0] < found.mean < found.interval[1] < -0.1
    low, high = table.summary("deletion", "good").interval
    assert low < table.summary("deletion", "random").mean < high


def test_verdicts_follow_the_direction(table):
    assert table.verdict("deletion", "good") == table.verdict("insertion", "bad") == "better"
    assert table.verdict("deletion", "bad") == table.verdict("insertion", "good") == "worse"
    assert table.verdict("deletion", "rare") == ""  # one image has no interval
    assert table.verdict("deletion", "random") == ""
    assert table.difference("deletion", "random").mean == 0.0


def test_where_zero_is_best_distances_from_it_are_compared(table):
    """What turns a map round is as far from forgetting it as what leaves it alone."""
    values = {"sanity": np.array([[-0.4, 0.05, 1.0], [-0.5, -0.1, 1.0], [-0.3, 0.02, 1.0]])}
    columns = {"sanity": Column("nearer 0", "similarity")}
    found = Faithfulness(("a", "b", "c"), ("turned", "new", "random"), "random", values, columns)
    assert found.difference("sanity", "turned").mean == pytest.approx(-0.6)
    assert found.difference("sanity", "new").mean == pytest.approx((0.17 - 3) / 3)
    assert found.verdict("sanity", "turned") == found.verdict("sanity", "new") == "better"
    assert found.summary("sanity", "turned").mean == pytest.approx(-0.4)  # what was measured is shown as it is
    assert "sanity: similarity (nearer 0 is better)" in str(found)
    assert Faithfulness.from_dict(found.to_dict()).columns == columns
    far = Faithfulness(("a", "b", "c"), ("new", "turned"), "new", {"sanity": values["sanity"][:, [1, 0]]}, columns)
    assert far.verdict("sanity", "turned") == "worse"


def test_it_comes_back_from_json(table):
    text = json.dumps(table.to_dict(), allow_nan=False)
    back = Faithfulness.from_dict(json.loads(text))
    assert json.dumps(back.to_dict(), allow_nan=False) == text
    np.testing.assert_array_equal(back.values["deletion"], table.values["deletion"])
    assert (back.ids, back.methods, back.left_out) == (table.ids, table.methods, table.left_out)
    rows = {(row["measure"], row["method"]): row for row in json.loads(text)["rows"]}
    assert len(rows) == 8
    assert rows["deletion", "good"]["mean"] == pytest.approx(table.summary("deletion", "good").mean)
    assert rows["deletion", "good"]["difference"]["interval"] == list(table.difference("deletion", "good").interval)
    assert rows["insertion", "good"]["verdict"] == "worse"
    assert rows["insertion", "rare"]["interval"] is None
    assert rows["insertion", "random"]["difference"] is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("images"),
        lambda data: data.update(reference="other"),
        lambda data: data["values"]["deletion"]["images"]["good"].pop(),
        lambda data: data["values"]["deletion"].update(better="more"),
        lambda data: data["values"]["deletion"]["images"].update(good=["a"] * 20),
        lambda data: data.update(values=[1]),
    ],
)
def test_damaged_data_are_refused(table, damage):
    data = table.to_dict()
    damage(data)
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        Faithfulness.from_dict(data)


def test_csv_has_a_line_an_image_and_method(table):
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert len(rows) == 80
    assert rows[0]["image"] == "0.png" and rows[0]["method"] == "good"
    assert float(rows[5]["deletion"]) == table.of("deletion", "bad")[1]
    assert rows[12]["deletion"] == ""  # NaN


def test_the_table_for_people(table):
    text = str(table)
    assert "deletion: area (lower is better)" in text
    line = next(line for line in text.splitlines() if line.startswith("good"))
    mean = table.difference("deletion", "good").mean
    assert f"{mean:+.4f}" in line and "better" in line and line.endswith("19")
    assert "20 images, 95% bootstrap intervals of means; 1 more could not be scored" in text
    assert repr(table) == "<Faithfulness of good, bad, rare, random: 20 images, deletion, insertion>"


def test_unknown_names_are_refused(table):
    with pytest.raises(ArgumentError, match="value must be one of deletion, insertion, got 'aopc'"):
        table.of("aopc", "good")
    with pytest.raises(ArgumentError, match="method must be one of good, bad, rare, random, got 'lime'"):
        table.summary("deletion", "lime")
