"""Map-style data sets as sources: labels, workers, and items that cannot be had."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from fastxai.errors import ArgumentError, ArgumentTypeError, CannotRun
from fastxai.images import load_batches, open_source
from fastxai.types import ImageBatch, Preprocess, Status

# torch's workers are forks by default; Python warns of the threads that pytest has
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

PREPROCESS = Preprocess((6, 8), 7)


class Mixed(Dataset[Any]):
    """Items of every kind, one that fails, and one that is no picture."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        noise = np.random.default_rng(index).integers(0, 256, (9, 11, 3), np.uint8)
        return [
            lambda: (Image.fromarray(noise), 5),
            lambda: (noise, torch.tensor(6)),
            lambda: (torch.from_numpy(noise).permute(2, 0, 1), "cat"),
            lambda: {"image": noise, "label": np.int64(7), "path": "x"},
            lambda: noise,
            lambda: (noise, np.eye(3)[0]),  # one-hot: no class id, so no label
            lambda: 1 // 0,
            lambda: ("words", 1),
        ][index]()


class Where(Dataset[Any]):
    """Pictures that tell which process made them."""

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> Any:
        return np.frombuffer(os.getpid().to_bytes(4, "little"), np.uint8)[None, :3].repeat(3, 0)[None].copy(), index


def whole(images: Any, **options: Any) -> ImageBatch:
    (batch,) = load_batches(open_source(images, **options), PREPROCESS, batch=64, class_names=("dog", "cat"))
    return batch


@pytest.mark.parametrize("workers", [0, 2])
def test_items_of_every_kind(workers: int) -> None:
    batch = whole(Mixed(), workers=workers)
    assert batch.ids == [str(i) for i in range(8)]
    assert batch.labels.tolist() == [-1, -1, 1, -1, -1, -1, -1, -1]  # only two classes are known
    assert batch.status == [Status.OK] * 6 + [Status.UNREADABLE] * 2
    assert batch.errors[6] == "data set item cannot be had: ZeroDivisionError: integer division or modulo by zero"
    assert batch.errors[7].startswith("data set item: images must be PIL images, uint8 arrays or tensors, got str")
    (plain,) = load_batches(open_source(Mixed(), workers=workers), PREPROCESS, batch=64)
    assert plain.labels.tolist() == [5, 6, -1, 7, -1, -1, -1, -1]


def test_workers_change_nothing_but_who_works() -> None:
    one, two = whole(Mixed()), whole(Mixed(), workers=2)
    assert (one.ids, one.digests, one.errors) == (two.ids, two.digests, two.errors)
    assert torch.equal(one.pixels, two.pixels)
    assert torch.equal(one.sizes, two.sizes)
    own = [entry.read().data for entry in open_source(Where()).stream()]
    others = [entry.read().data for entry in open_source(Where(), workers=2).stream()]
    pid = os.getpid().to_bytes(4, "little")[:3]
    assert {data[0, 0].tobytes() for data in own} == {pid}
    made = {data[0, 0].tobytes() for data in others}
    assert len(made) == 2
    assert pid not in made


def test_given_labels_count_more() -> None:
    for workers in (0, 1):
        batch = whole(Mixed(), labels=[1, 0, 0, 0, "cat", 0, 1, None], workers=workers)
        assert batch.labels.tolist() == [1, 0, 0, 0, 1, 0, 1, -1]


def test_parts_of_a_source_keep_its_workers() -> None:
    source = open_source(Where(), workers=2)
    part = source.only(lambda id: id in ("2", "5"))[0:2]
    read = [(entry.id, entry.read()) for entry in part.stream()]
    assert [(id, raw.label) for id, raw in read] == [("2", 2), ("5", 5)]
    assert os.getpid().to_bytes(4, "little")[:3] not in {raw.data[0, 0].tobytes() for _, raw in read}
    assert list(source.only(lambda id: False).stream()) == []


def test_ready_model_input_from_workers() -> None:
    inputs = torch.randn(3, 3, 6, 8)
    for workers in (0, 2):
        source = open_source(TensorDataset(inputs, torch.arange(3)), normalized=True, workers=workers)
        (batch,) = load_batches(source, PREPROCESS, batch=3)
        assert torch.equal(batch.inputs, inputs)
        assert batch.labels.tolist() == [0, 1, 2]


class Deadly(Where):
    def __getitem__(self, index: int) -> Any:
        if index == 4:
            os._exit(3)
        return super().__getitem__(index)


class Unpicklable(Where):
    def __getitem__(self, index: int) -> Any:
        image = Image.new("RGB", (4, 4))
        image.info["hook"] = lambda: None
        return image if index == 1 else super().__getitem__(index)


@pytest.mark.timeout(60)
def test_a_worker_that_dies_is_one_line() -> None:
    with pytest.raises(CannotRun, match="a process that fetches items of the data set ended: DataLoader worker"):
        whole(Deadly(), workers=1)


@pytest.mark.timeout(60)
def test_an_item_that_cannot_travel_is_a_failed_row() -> None:
    batch = whole(Unpicklable(), workers=1)
    assert batch.errors[1].startswith("data set item cannot be handed over: ")
    assert [i for i, error in enumerate(batch.errors) if error] == [1]


@pytest.mark.timeout(60)
def test_workers_end_with_a_load_that_ends_early() -> None:
    import multiprocessing

    batches = load_batches(open_source(Where(), workers=2), PREPROCESS, batch=1)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


def test_what_is_no_map_style_data_set_is_refused() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            yield 1

        def __len__(self) -> int:
            return 1

    class Endless(Dataset[Any]):
        def __getitem__(self, index: int) -> Any:
            return index

    with pytest.raises(ArgumentTypeError, match="got Stream, which has no items by number"):
        open_source(Stream())
    with pytest.raises(ArgumentTypeError, match="got Endless, which has no __len__"):
        open_source(Endless())
    with pytest.raises(ArgumentTypeError, match=r"got DataLoader: give its data set, open_source\(loader.dataset"):
        open_source(DataLoader(Where()))
    with pytest.raises(ArgumentError, match="workers must be 0 for what is no data set, got 2"):
        open_source(np.zeros((1, 4, 4, 3), np.uint8), workers=2)
    with pytest.raises(ArgumentError, match="workers must be at least 0, got -1"):
        open_source(Where(), workers=-1)
    with pytest.raises(ArgumentError, match="workers must be 0 for a source that is open"):
        open_source(open_source(Where()), workers=1)


def test_a_data_set_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "named_sets.py").write_text(
        "import numpy as np\n"
        "class Set:\n"
        "    def __len__(self): return 3\n"
        "    def __getitem__(self, i): return np.full((4, 4, 3), i, np.uint8), i\n"
        "made = Set()\n"
        "def broken(): raise KeyError('no disk')\n"
    )
    monkeypatch.chdir(tmp_path)
    for name in ("named_sets:Set", "named_sets:made"):
        for images in (name, [name]):
            source = open_source(images)
            assert source.ids == ["0", "1", "2"]
            assert source[2].read().label == 2
    assert open_source("named_sets:Set", workers=1).ids == ["0", "1", "2"]
    for name, kind, words in (
        ("no_such_sets:x", ArgumentError, "IMAGES must be files that exist or package.module:name.*no module no_such"),
        ("named_sets:nothing", ArgumentError, "IMAGES must name a data set of named_sets"),
        ("named_sets:broken", CannotRun, "named_sets:broken failed: KeyError"),
        ("math:pi", ArgumentTypeError, "images must be .*, got float"),
    ):
        with pytest.raises(kind, match=words):
            open_source(name)
