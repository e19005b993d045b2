"""Rank correlation and overlap, on vectors whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from fastxai.bench.agreement import at_segments, compare, rank_correlation, top_overlap

LABELS = np.repeat(np.arange(4), 4).reshape(4, 4)


def test_rank_correlation_is_spearmans_with_ties():
    generator = np.random.default_rng(0)
    a = generator.integers(0, 6, 50).astype(float)
    b = a + generator.normal(0, 2, 50)
    # the same sums in another order
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    assert rank_correlation(a, np.exp(a)) == pytest.approx(1.0)
    assert rank_correlation(a, -a) == pytest.approx(-1.0)
    assert math.isnan(rank_correlation(a, np.ones(50)))
    with pytest.raises(ValueError, match="one length"):
        rank_correlation(a, b[:-1])


def test_overlap_of_the_ten_largest():
    a = np.arange(30.0)
    b = a.copy()
    b[[29, 28, 27]] = -1.0
    assert top_overlap(a, a) == 1.0
    assert top_overlap(a, b) == 0.7
    assert top_overlap(a[:4], -a[:4]) == 1.0  # fewer than ten: all of them
    assert math.isnan(top_overlap(a[:1], a[:1]))


def test_maps_are_compared_by_the_mean_of_their_size_in_each_segment():
    values = np.zeros((4, 4))
    values[1] = [-4.0, 4.0, 0.0, 0.0]
    assert at_segments(values, LABELS).tolist() == [0.0, 2.0, 0.0, 0.0]
    weights = np.array([-1.0, 2.0])
    assert at_segments(weights, LABELS) is weights


def test_classes_that_one_side_lacks_are_left_out():
    one = {3: np.array([1.0, 2.0, 3.0, 4.0]), 5: np.array([4.0, 3.0, 2.0, 1.0])}
    other = {3: np.array([1.0, 2.0, 4.0, 3.0]), 9: np.array([0.0, 0.0, 0.0, 1.0])}
    found = compare([one, one], [other, {}], [LABELS, LABELS], "lime")
    assert found.pairs == 1
    assert found.rank_correlation == found.lowest == pytest.approx(0.8)
    assert found.top10 == 1.0
    none = compare([one], [{}], [LABELS], "lime").to_dict()
    assert none == {"rank_correlation": None, "lowest": None, "top10": None, "pairs": 0}


def test_cam_maps_are_ranked_pixel_by_pixel():
    flat = np.zeros((4, 4))
    flat[0, 0], flat[0, 1] = 1.0, 0.5
    turned = flat.copy()
    turned[0, 0], turned[0, 1] = 0.5, 1.0
    assert compare([{0: flat}], [{0: turned}], [LABELS], "gradcam").rank_correlation < 1.0
    assert compare([{0: flat}], [{0: turned}], [LABELS], "gradient-shap").rank_correlation == pytest.approx(1.0)
