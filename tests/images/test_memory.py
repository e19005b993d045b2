"""Pictures in memory: what is taken, what is refused, and what the model gets to see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastxai.errors import ArgumentError
from fastxai.images import Source, load_batches, open_source
from fastxai.types import ImageBatch, Preprocess, Status

PREPROCESS = Preprocess((6, 8), 7, "bilinear", (0.5, 0.4, 0.3), (0.5, 0.2, 0.25))


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, 6, 8, 3), np.uint8)


def whole(source: Source, preprocess: Preprocess = PREPROCESS) -> ImageBatch:
    (batch,) = load_batches(source, preprocess, batch=len(source))
    return batch


def test_arrays_and_tensors_of_the_models_size_are_taken_as_they_are(array: np.ndarray) -> None:
    channels_first = torch.from_numpy(array).permute(0, 3, 1, 2)
    batches = [
        whole(open_source(array)),
        whole(open_source(list(array))),
        whole(open_source(channels_first)),
        whole(open_source(list(channels_first))),
        whole(open_source(channels_first.float() / 255)),
        whole(open_source(channels_first.double() / 255)),
    ]
    for batch in batches:
        assert batch.ids == ["0", "1", "2"]
        assert torch.equal(batch.pixels, channels_first)
        assert batch.inputs is None
        assert batch.status == [Status.OK] * 3
        assert batch.crops.tolist() == [[0, 0, 8, 6]] * 3
        assert batch.sizes.tolist() == [[6, 8]] * 3
        assert batch.digests == batches[0].digests


def test_other_sizes_go_through_the_geometry() -> None:
    picture = np.random.default_rng(2).integers(0, 256, (20, 31, 3), np.uint8)
    expected = whole(open_source(Image.fromarray(picture)))
    for images in (picture, picture[None], torch.from_numpy(picture).permute(2, 0, 1)):
        found = whole(open_source(images))
        assert torch.equal(found.pixels, expected.pixels)
        assert found.crops.tolist() == expected.crops.tolist()
        assert found.sizes.tolist() == [[20, 31]]


def test_floats_are_rounded_to_bytes() -> None:
    values = torch.tensor([0.0, 0.1, 0.5, 0.999, 1.0]).repeat(3, 1, 1)  # [3, 1, 5]
    batch = whole(open_source(values), Preprocess((1, 5), None))
    assert batch.pixels[0, 0, 0].tolist() == [0, 26, 128, 255, 255]  # 25.5, 127.5: to the even neighbour


def test_ready_input_is_kept_to_the_bit(array: np.ndarray) -> None:
    pixels = torch.from_numpy(array).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(v)[:, None, None] for v in (PREPROCESS.mean, PREPROCESS.std))
    ready = (pixels.float() / 255 - mean) / std
    batch = whole(open_source(ready, normalized=True))
    assert batch.inputs is not None
    assert torch.equal(batch.inputs, ready)
    assert torch.equal(batch.pixels, pixels)
    wild = ready.clone()
    wild[0, 0, 0, :4] = torch.tensor([float("nan"), float("inf"), -1e30, 1e30])
    batch = whole(open_source(wild, normalized=True))
    assert batch.inputs is not None
    assert torch.equal(batch.inputs.nan_to_num(7), wild.nan_to_num(7))
    assert batch.pixels[0, 0, 0, :4].tolist() == [0, 255, 0, 255]
    assert batch.status == [Status.OK] * 3


def test_ready_input_must_have_the_models_size() -> None:
    source = open_source(torch.zeros(2, 3, 6, 7), normalized=True)
    with pytest.raises(ArgumentError, match=r"must have the model's size \(3, 6, 8\).*got \(3, 6, 7\)"):
        load_batches(source, PREPROCESS, batch=1)


def test_ready_input_may_have_any_number_of_channels() -> None:
    preprocess = Preprocess((2, 2), None, mean=(0.0,) * 5, std=(1.0,) * 5)
    batch = whole(open_source(torch.rand(2, 5, 2, 2), normalized=True), preprocess)
    assert batch.pixels.shape == (2, 5, 2, 2)
    with pytest.raises(ArgumentError, match="for a model of 5 channels"):
        load_batches(open_source(torch.rand(2, 3, 2, 2)), preprocess, batch=1)


def test_one_channel_models() -> None:
    preprocess = Preprocess((6, 8), None, mean=(0.5,), std=(0.5,))
    colour = Image.fromarray(np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8))
    grey = np.asarray(colour.convert("L"))
    for images in (colour, np.asarray(colour), grey, grey[None, :, :, None], torch.from_numpy(grey.copy())[None, None]):
        batch = whole(open_source(images), preprocess)
        np.testing.assert_array_equal(batch.pixels.numpy(), grey[None, None])


def test_pil_images_are_turned_upright_and_left_alone() -> None:
    image = Image.fromarray(np.random.default_rng(4).integers(0, 256, (8, 6, 3), np.uint8))
    image.getexif()[0x0112] = 6
    batch = whole(open_source([image, image]), Preprocess((6, 8), None))
    assert image.size == (6, 8)
    assert batch.sizes.tolist() == [[6, 8]] * 2
    np.testing.assert_array_equal(batch.pixels[1].numpy(), np.asarray(image)[::-1].transpose(2, 1, 0))


class Pictures:
    """A map-style data set of five items, the third of which is broken."""

    def __init__(self, item: Any) -> None:
        self.item = item

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        if index == 2:
            raise KeyError("no such picture")
        return self.item(index)


@pytest.mark.parametrize(
    "form", [lambda p, i: (p, i), lambda p, i: {"image": p, "label": i}, lambda p, i: (p, torch.tensor(i), "x")]
)
def test_data_sets(array: np.ndarray, form: Any) -> None:
    source = open_source(Pictures(lambda i: form(Image.fromarray(array[0]), i)))
    assert len(source) == 5
    batch = whole(source, Preprocess((6, 8), None))
    assert batch.labels.tolist() == [0, 1, -1, 3, 4]
    assert batch.status == [Status.OK, Status.OK, Status.UNREADABLE, Status.OK, Status.OK]
    assert "KeyError: 'no such picture'" in batch.errors[2]
    np.testing.assert_array_equal(batch.pixels[4].numpy(), array[0].transpose(2, 0, 1))


def test_data_sets_of_ready_input_and_of_nonsense(array: np.ndarray) -> None:
    ready = whole(open_source(Pictures(lambda i: torch.full((3, 6, 8), float(i))), normalized=True))
    assert ready.inputs is not None
    assert ready.inputs[4].unique().tolist() == [4.0]
    assert ready.inputs[2].unique().tolist() == [0.0]
    wrong = whole(
        open_source(Pictures(lambda i: [torch.zeros(3, 5, 5), "text", None, None, torch.full((3, 2, 2), 2.0)][i]))
    )
    assert [error.split(":")[0] for error in wrong.errors] == [
        "",
        *["data set item"] * 1,
        "data set item cannot be had",
        *["data set item"] * 2,
    ]
    small = whole(open_source(Pictures(lambda i: torch.zeros(3, 5, 5)), normalized=True))
    assert "must have shape (3, 6, 8), got (3, 5, 5)" in small.errors[0]


def test_tensor_data_sets(array: np.ndarray) -> None:
    tensors = torch.utils.data.TensorDataset(torch.from_numpy(array).permute(0, 3, 1, 2), torch.tensor([5, 6, 7]))
    assert whole(open_source(tensors)).labels.tolist() == [5, 6, 7]


def test_labels(array: np.ndarray) -> None:
    for labels in ([1, 2, 3], np.array([1, 2, 3]), torch.tensor([1, 2, 3])):
        assert whole(open_source(array, labels=labels)).labels.tolist() == [1, 2, 3]
    (batch,) = load_batches(
        open_source(array, labels=["cat", None, "emu"]), PREPROCESS, batch=3, class_names=("dog", "cat")
    )
    assert batch.labels.tolist() == [1, -1, -1]


def test_ids_sort_as_they_are_numbered() -> None:
    ids = open_source(np.zeros((11, 2, 2, 3), np.uint8)).ids
    assert ids[:2] == ["00", "01"]
    assert ids == sorted(ids)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (torch.full((1, 3, 4, 4), 2.0), {}, r"must lie in \[0, 1\] as a float tensor, got 2..2: divide by 255, or say"),
        (torch.full((1, 3, 4, 4), float("nan")), {}, "must lie in"),
        ([torch.full((3, 4, 4), -0.5)], {}, "must lie in"),
        (torch.zeros(4, 4), {}, r"must be a tensor \[N, 3, H, W\]"),
        (torch.zeros(2, 8, 9, 3), {}, "channels first"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.int64), {}, "must be uint8, or float"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), {"normalized": True}, "must be float tensors"),
        (torch.zeros(0, 3, 4, 4), {}, "at least one picture"),
        (np.zeros((2, 4, 4, 3)), {}, "must be uint8 as arrays, got float64"),
        (np.zeros((2, 3, 4, 4), np.uint8)[:, :, :, :2], {}, "channels last"),
        (np.zeros((4,), np.uint8), {}, "must be arrays"),
        (np.zeros((0, 4, 4, 3), np.uint8), {}, "at least one picture"),
        (np.zeros((1, 0, 4, 3), np.uint8), {}, "at least one pixel"),
        (np.zeros((2, 4, 4, 3), np.uint8), {"normalized": True}, "float tensors with normalized=True"),
        ([], {}, "at least one picture"),
        (["a.png", np.zeros((4, 4, 3), np.uint8)], {}, "must be a list of paths, or of"),
        (3, {}, "images must be paths, PIL images"),
        ({}, {}, "images must be paths"),
        ("a.png", {"normalized": True}, "normalized must be False for files"),
        (np.zeros((2, 4, 4, 3), np.uint8), {"labels": [1]}, r"labels must be one per image \(2\), got 1"),
        (np.zeros((2, 4, 4, 3), np.uint8), {"labels": np.zeros((2, 2))}, r"labels must have shape \[N\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), {"labels": "cat"}, "labels must be class ids or names"),
        (np.zeros((2, 4, 4, 3), np.uint8), {"labels": [0.5, 1]}, "labels must be class ids or names"),
    ],
)
def test_wrong_arguments_say_what_to_do(images: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        open_source(images, **options)


def test_a_source_is_a_source(array: np.ndarray) -> None:
    source = open_source(array)
    assert open_source(source) is source
    assert repr(source) == "Source(3 images)"
