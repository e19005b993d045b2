"""segment_mean: against numpy's mean of each segment, and against what the package lime would fill in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.ops import segment_mean

SHAPES = [(1, 3, 1, 1, 1), (2, 3, 7, 19, 5), (3, 1, 4, 111, 40), (1, 4, 16, 16, 500), (2, 3, 12, 12, 1)]


def twin(pictures, labels, segments):
    """float64 [B, S, C], empty segments 0."""
    out = np.zeros((pictures.shape[0], segments, pictures.shape[1]))
    for b in range(pictures.shape[0]):
        for s in range(segments):
            for c in range(pictures.shape[1]):
                inside = pictures[b, c].numpy()[labels[b].numpy() == s]
                out[b, s, c] = inside.astype(np.float64).mean() if inside.size else 0.0
    return out


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_twin(scene, shape):
    batch, channels, height, width, segments = shape
    made = scene(batch, channels, height, width, segments, 1)
    wanted = twin(made.pictures, made.labels, segments)
    got = segment_mean(made.pictures, made.labels, segments)
    assert got.dtype == torch.float32
    assert np.array_equal(got.numpy(), wanted.astype(np.float32))
    truncated = segment_mean(made.pictures, made.labels, segments, truncate=True)
    assert np.array_equal(truncated.numpy(), wanted.astype(np.uint8).astype(np.float32))

    floats = made.pictures.float() / 37 - 3
    # The sums are float64 in both, in another order: what is left is one rounding to float32.
    np.testing.assert_allclose(
        segment_mean(floats, made.labels, segments).numpy(), twin(floats, made.labels, segments), rtol=1e-7, atol=1e-12
    )


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    batch=st.integers(0, 3),
    channels=st.integers(1, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 19),
    segments=st.sampled_from([1, 2, 7, 33, 80]),
    spare=st.integers(0, 3),
    ways=st.tuples(*[st.integers(0, 3)] * 2),
    seed=st.integers(0, 2**31),
)
def test_equals_the_twin_in_any_layout(relaid, batch, channels, height, width, segments, spare, ways, seed):
    g = torch.Generator().manual_seed(seed)
    pictures = torch.randint(0, 256, (batch, channels, height, width), generator=g).to(torch.uint8)
    labels = torch.randint(0, segments, (batch, height, width), generator=g).to(torch.int32)
    segments += spare
    floats = pictures.float() / 37 - 3
    inputs = [relaid(tensor, ways[0]) for tensor in (pictures, floats)]
    there = relaid(labels, ways[1])
    wanted = twin(pictures, labels, segments)
    assert np.array_equal(segment_mean(inputs[0], there, segments).numpy(), wanted.astype(np.float32))
    truncated = segment_mean(inputs[0], there, segments, truncate=True)
    assert np.array_equal(truncated.numpy(), np.floor(wanted).astype(np.float32))
    # float64 sums of at most 171 numbers of order 1 in another order, then one rounding to float32
    got = segment_mean(inputs[1], there, segments).numpy()
    np.testing.assert_allclose(got, twin(floats, labels, segments), rtol=1e-7, atol=1e-12)


def test_no_pictures_and_no_channels():
    def shape(batch, channels):
        pictures = torch.zeros(batch, channels, 4, 5, dtype=torch.uint8)
        return segment_mean(pictures, torch.zeros(batch, 4, 5, dtype=torch.int32), 7).shape

    assert shape(0, 3) == (0, 7, 3)
    assert shape(2, 0) == (2, 7, 0)


def test_inputs_need_not_be_contiguous(scene):
    made = scene(2, 3, 12, 10, 20, 1)
    wanted = segment_mean(made.pictures, made.labels, 20)
    pictures = made.pictures.to(memory_format=torch.channels_last)
    labels = made.labels.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(segment_mean(pictures, labels, 20), wanted)


def test_more_segments_than_there_are(scene):
    made = scene(1, 3, 5, 5, 4, 1)
    got = segment_mean(made.pictures, made.labels, 9)
    assert got.shape == (1, 9, 3)
    assert torch.equal(got[:, 4:], torch.zeros(1, 5, 3))
    assert torch.equal(got[:, :4], segment_mean(made.pictures, made.labels, 4))


def test_fills_like_lime(photos):
    """The lines of `LimeImageExplainer.explain_instance` for hide_color=None."""
    image = np.ascontiguousarray(photos["coffee"][:96, :96])
    labels = (np.arange(96)[:, None] // 13 * 8 + np.arange(96) // 13).astype(np.int32)
    filled = image.copy()
    for x in np.unique(labels):
        inside = labels == x
        filled[inside] = (np.mean(image[inside][:, 0]), np.mean(image[inside][:, 1]), np.mean(image[inside][:, 2]))
    picture = torch.from_numpy(image).permute(2, 0, 1)[None]
    means = segment_mean(picture, torch.from_numpy(labels)[None], int(labels.max()) + 1, truncate=True)
    assert np.array_equal(means[0].numpy()[labels], filled)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"pictures": torch.zeros(1, 3, 4, 4).double()}, ArgumentError, "pictures must be uint8 or float32"),
        ({"pictures": torch.zeros(3, 4, 4)}, ArgumentError, r"pictures must be uint8 or float32 \[B, C, H, W\]"),
        ({"pictures": [0]}, ArgumentTypeError, "pictures must be a tensor, got list"),
        ({"labels": torch.zeros(1, 4, 5, dtype=torch.int32)}, ArgumentError, "labels must be int32"),
        ({"labels": torch.zeros(1, 4, 4, dtype=torch.int64)}, ArgumentError, "labels must be int32"),
        ({"labels": torch.zeros(2, 4, 4, dtype=torch.int32)}, ArgumentError, r"labels must be int32 \[B=1, H=4, W=4\]"),
        (
            {"labels": torch.full((1, 4, 4), 2, dtype=torch.int32)},
            ArgumentError,
            r"labels must be between 0 and 1 \(segments\)",
        ),
        ({"labels": torch.full((1, 4, 4), -1, dtype=torch.int32)}, ArgumentError, "labels must be between 0 and 1"),
        (
            {"labels": torch.zeros(1, 4, 4, dtype=torch.int32, device="meta")},
            ArgumentError,
            "labels must be on cpu like pictures, got meta",
        ),
        ({"segments": 0}, ArgumentError, "segments must be at least 1"),
        ({"segments": 2.0}, ArgumentTypeError, "segments must be a whole number, got 2.0"),
        ({"truncate": "no"}, ArgumentTypeError, "truncate must be True or False, got 'no'"),
        ({"pictures": torch.zeros(1, 3, 4, 4), "truncate": True}, ArgumentError, "truncate must be used with uint8"),
    ],
)
def test_wrong_arguments(change, error, message):
    arguments = {
        "pictures": torch.zeros(1, 3, 4, 4, dtype=torch.uint8),
        "labels": torch.zeros(1, 4, 4, dtype=torch.int32),
        "segments": 2,
    }
    segment_mean(**arguments)
    with pytest.raises(error, match=message):
        segment_mean(**{**arguments, **change})
