"""Masks against the lime package, against naive twins, and on known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lime.lime_image import ImageExplanation

from fastxai.errors import ArgumentError
from fastxai.masks import at_least, positive_segments, top_fraction, top_segments

NAN = float("nan")


def lime_mask(weights: np.ndarray, segments: np.ndarray, count: int) -> np.ndarray:
    """What the lime package shows for these coefficients."""
    explanation = ImageExplanation(np.zeros((*segments.shape, 3), np.uint8), segments)
    ordered = sorted(enumerate(weights.tolist()), key=lambda pair: abs(pair[1]), reverse=True)  # as lime_base does
    explanation.local_exp[0] = [pair for pair in ordered if not np.isnan(pair[1])]
    return explanation.get_image_and_mask(0, positive_only=True, num_features=count)[1].astype(bool)


@pytest.mark.parametrize("count", [1, 3, 10, 1000])
@pytest.mark.parametrize("ties", [False, True])
def test_top_segments_is_the_rule_of_lime(count: int, ties: bool) -> None:
    rng = np.random.default_rng(count)
    counts = [57, 4, 1]
    weights = torch.full((3, 2, 57), NAN)
    segments = torch.zeros(3, 19, 23, dtype=torch.int32)
    for image, size in enumerate(counts):
        segments[image] = torch.from_numpy(rng.integers(0, size, (19, 23), dtype=np.int32))
        drawn = rng.normal(size=(2, size)).astype(np.float32)
        weights[image, :, :size] = torch.from_numpy(np.round(drawn) if ties else drawn)
    mask = top_segments(weights, segments, count)
    assert mask.dtype == torch.bool
    assert mask.shape == (3, 2, 19, 23)
    for image, size in enumerate(counts):
        for target in range(2):
            wanted = lime_mask(weights[image, target, :size].numpy(), segments[image].numpy(), count)
            assert np.array_equal(mask[image, target].numpy(), wanted)


def test_top_segments_of_equal_weights_are_the_lower_numbers() -> None:
    segments = torch.arange(4, dtype=torch.int32).view(2, 2)
    assert top_segments(torch.tensor([[0.5, 1.0, 0.5, 0.5]]), segments, 2).tolist() == [[[True, True], [False, False]]]


def test_top_segments_are_fewer_where_fewer_are_positive() -> None:
    weights = torch.tensor([[0.3, -2.0, 0.0, NAN], [-1.0, -1.0, -1.0, NAN]])
    segments = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    assert top_segments(weights, segments, 3).tolist() == [[[True, False, False]], [[False, False, False]]]
    assert positive_segments(weights).tolist() == [1, 0]


def test_top_segments_of_a_failed_image_is_empty() -> None:
    weights = torch.full((2, 1, 3), NAN)
    weights[1] = 1.0
    segments = torch.tensor([[[-1, -1]], [[0, -1]]], dtype=torch.int32)  # below 0: no segment
    assert top_segments(weights, segments, 2).tolist() == [[[[False, False]]], [[[True, False]]]]


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int64])
def test_top_segments_takes_any_integer_labels(kind: torch.dtype) -> None:
    segments = torch.tensor([[0, 1]]).to(kind)
    assert top_segments(torch.tensor([[-1.0, 1.0]]), segments, 1).tolist() == [[[False, True]]]


def test_top_segments_without_pixels_or_segments() -> None:
    assert top_segments(torch.zeros(0, 2, 5), torch.zeros(0, 3, 3, dtype=torch.int32), 1).shape == (0, 2, 3, 3)


@pytest.mark.parametrize(
    ("weights", "segments", "count", "message"),
    [
        (torch.zeros(1, 2), torch.zeros(2, 2).int(), 0, "top_segments must be at least 1, got 0"),
        (torch.zeros(1, 2), torch.zeros(2, 2).int(), 1.5, "top_segments must be a whole number"),
        (torch.zeros(3, 1, 2), torch.zeros(2, 2).int(), 1, "same leading axes"),
        (torch.zeros(3, 1, 2), torch.zeros(4, 2, 2).int(), 1, "same leading axes"),
        (torch.zeros(1, 2), torch.zeros(2, 2), 1, "segments integers"),
        (torch.zeros(1, 2).int(), torch.zeros(2, 2).int(), 1, "weights must be floats"),
        (torch.zeros(1, 2), torch.full((2, 2), 2).int(), 1, "segments must be below the number of weights 2, got 2"),
    ],
)
def test_top_segments_refuses(weights: torch.Tensor, segments: torch.Tensor, count: int, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        top_segments(weights, segments, count)


def naive_top_fraction(grid: np.ndarray, fraction: float) -> np.ndarray:
    """Sort pixels by (value descending, raster index), NaN last; keep the first floor(fraction * size + 0.5)."""
    flat = grid.ravel()
    order = sorted(range(flat.size), key=lambda i: (np.isnan(flat[i]), -flat[i] if not np.isnan(flat[i]) else 0, i))
    mask = np.zeros(flat.size, bool)
    mask[order[: int(np.floor(fraction * flat.size + 0.5))]] = True
    return mask.reshape(grid.shape)


@pytest.mark.parametrize("fraction", [0.003, 0.2, 0.5, 1.0])
def test_top_fraction_keeps_exactly_the_share_by_rank(fraction: float) -> None:
    rng = np.random.default_rng(5)
    maps = np.maximum(rng.normal(size=(2, 3, 17, 13)), 0).astype(np.float32)  # half the pixels tie at 0, as after relu
    maps[1, 2, 4] = np.nan
    mask = top_fraction(torch.from_numpy(maps), fraction).numpy()
    for image in range(2):
        for target in range(3):
            assert np.array_equal(mask[image, target], naive_top_fraction(maps[image, target], fraction))


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, NAN])
def test_top_fraction_refuses_other_shares(fraction: float) -> None:
    with pytest.raises(ArgumentError, match="top_fraction must be a number above 0 and at most 1"):
        top_fraction(torch.zeros(2, 2), fraction)


def test_top_fraction_refuses_a_vector() -> None:
    with pytest.raises(ArgumentError, match=r"maps must be \[..., H, W\]"):
        top_fraction(torch.zeros(4), 0.5)


def test_at_least_is_a_share_of_each_maps_own_maximum() -> None:
    maps = torch.tensor([[[4.0, 2.0], [1.9, -3.0]], [[0.04, 0.02], [0.019, -0.03]], [[0.0, -1.0], [-2.0, 0.0]]])
    mask = at_least(maps, 0.5)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[[True, True], [False, False]]] * 2 + [[[False, False], [False, False]]]
    assert at_least(maps, 1.0).sum().item() == 2  # of the first two maps their largest value
    assert not at_least(torch.tensor([[1.0, NAN]]), 0.1).any()
    assert at_least(torch.zeros(0, 3, 2), 0.5).shape == (0, 3, 2)


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01, NAN])
def test_at_least_refuses_other_thresholds(threshold: float) -> None:
    with pytest.raises(ArgumentError, match="threshold must be a number above 0 and at most 1"):
        at_least(torch.zeros(2, 2), threshold)


def test_at_least_refuses_a_vector() -> None:
    with pytest.raises(ArgumentError, match=r"maps must be \[..., H, W\]"):
        at_least(torch.zeros(4), 0.5)
