from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from fastxai.errors import ArgumentError
from fastxai.segments import SEGMENTERS, Felzenszwalb, Grid, Labels, Quickshift, Slic, as_segmenter, segment_batch
from fastxai.types import ImageBatch, Status


def batch_of(pictures, status=None):
    pixels = torch.from_numpy(np.stack([p.transpose(2, 0, 1) for p in pictures]))
    count = len(pictures)
    return ImageBatch(
        ids=[f"i{n}" for n in range(count)],
        digests=["0" * 32] * count,
        status=list(status or [Status.OK] * count),
        errors=[""] * count,
        sizes=torch.zeros(count, 2, dtype=torch.int32),
        crops=torch.zeros(count, 4),
        labels=torch.full((count,), -1),
        pixels=pixels,
    )


@pytest.fixture(scope="module")
def crop(photos):
    return np.ascontiguousarray(photos["coffee"][100:196, 200:311])


@pytest.mark.parametrize("segmenter", [Quickshift(), Slic(segments=20), Felzenszwalb(), Grid(3, 5)])
def test_labels_run_from_zero_without_gaps(segmenter, crop):
    batch = batch_of([crop, crop[::-1, ::-1].copy()])
    with ThreadPoolExecutor(2) as pool:
        segment_batch(batch, [segmenter], pool)
    found = batch.segments[segmenter.key]
    assert found.labels.dtype == torch.int32
    for labels, count in zip(found.labels, found.counts, strict=True):
        assert labels.unique().tolist() == list(range(int(count)))
        assert count > 1


def test_quickshift_is_that_of_scikit_image(crop):
    from skimage.segmentation import quickshift

    batch = batch_of([crop])
    with ThreadPoolExecutor(1) as pool:
        segment_batch(batch, [Quickshift()], pool)
    wanted = quickshift(crop, kernel_size=4, max_dist=200, ratio=0.2)
    assert np.array_equal(batch.segments[Quickshift().key].labels[0].numpy(), wanted)


def test_grid_cells_are_even():
    labels = Grid(2, 3).label(np.zeros((4, 6, 3), np.uint8), "x")
    assert np.array_equal(np.bincount(labels.ravel()), [4] * 6)
    with pytest.raises(ArgumentError, match="grid must have at most 4 rows"):
        Grid(5, 3).settle([], (4, 6))


def test_ready_maps_are_renumbered_and_laid_to_ids(crop):
    maps = np.zeros((2, *crop.shape[:2]), np.int64)
    maps[0, 10:] = 7
    maps[1, :, 50:] = -3
    segmenter = Labels(maps).settle(["i0", "i1"], crop.shape[:2])
    batch = batch_of([crop, crop])
    with ThreadPoolExecutor(1) as pool:
        segment_batch(batch, [segmenter], pool)
    found = batch.segments[segmenter.key]
    assert found.counts.tolist() == [2, 2]
    assert torch.equal(found.labels[0], torch.from_numpy(maps[0] == 7).int())
    assert torch.equal(found.labels[1], torch.from_numpy(maps[1] == 0).int())
    assert segmenter.key == Labels(maps).key
    assert segmenter.key != Labels(maps + 1).key


def test_a_map_that_is_missing_or_of_another_size_fails_its_image_alone(crop):
    whole = np.zeros(crop.shape[:2], np.int32)
    segmenter = Labels({"i0": whole, "i1": whole[1:]})
    batch = batch_of([crop, crop, crop])
    with ThreadPoolExecutor(1) as pool:
        segment_batch(batch, [segmenter], pool)
    assert batch.status == [Status.OK, Status.METHOD, Status.METHOD]
    assert "label map is" in batch.errors[1]
    assert "no label map" in batch.errors[2]


def test_failed_images_are_not_segmented(crop):
    batch = batch_of([crop, crop], [Status.UNREADABLE, Status.OK])
    with ThreadPoolExecutor(1) as pool:
        segment_batch(batch, [Grid(2, 2)], pool)
    assert batch.segments[Grid(2, 2).key].counts.tolist() == [1, 4]


def test_configurations_round_trip():
    for segmenter in (Quickshift(kernel_size=3, ratio=0.5), Slic(segments=9), Felzenszwalb(), Grid(2, 4)):
        assert SEGMENTERS.from_dict(segmenter.to_dict()) == segmenter
    assert as_segmenter("slic:segments=80") == Slic(segments=80)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: as_segmenter("nope"), "segments must be one of"),
        (lambda: as_segmenter("slic:size=3"), "option of segments 'slic' must be one of"),
        (lambda: as_segmenter(3), "segments must be a segmenter"),
        (lambda: Quickshift(kernel_size=0), "kernel_size must be a number at least 1"),
        (lambda: Quickshift(ratio=2), "ratio must be a number at least 0 and at most 1"),
        (lambda: Slic(segments=0), "segments must be at least 1"),
        (lambda: Labels(np.zeros((2, 2))), "label maps must be integers"),
        (lambda: Labels(np.zeros((3, 2, 2), int)).settle(["a"], (2, 2)), "one label map per image, got 3 for 1"),
    ],
)
def test_wrong_arguments_are_refused(build, message):
    with pytest.raises(ArgumentError, match=message):
        build()
