"""Runs that end early keep what is finished; failed images are tried again when that is asked for."""

from __future__ import annotations

import io
import threading
import time

import pytest
import torch
from PIL import Image

import fastxai as fx
from fastxai.errors import ArgumentError
from fastxai.overlap import Stop, Stopped, ahead, as_asked

SETTINGS = fx.Settings(precision="fp32", rows={"predict": 2, "scores": 4, "gradients": 4})
METHODS = (fx.Lime(samples=20, segments=fx.Grid(rows=3, columns=3)), fx.GradCam())


@pytest.fixture
def folder(tmp_path, noise_pictures):
    place = tmp_path / "pictures"
    place.mkdir()
    for index, picture in enumerate(noise_pictures(8)):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(place / f"{index}.png")
    return place


@pytest.mark.parametrize("rows", [20, 23])  # between two batches, and in the middle of the third
def test_finished_batches_are_kept_and_the_one_in_work_is_dropped(convolutional, folder, tmp_path, rows):
    out, before = tmp_path / "run", threading.active_count()
    stop = threading.Event()
    lime = 0

    def progress(seen):
        nonlocal lime
        lime += seen.method == "lime"
        if lime == rows:  # chunks of 4 of the 40 rows of a batch of 2 images
            stop.set()

    with pytest.raises(Stopped, match="4 images were explained"):
        fx.run(convolutional, folder, METHODS, out=out, settings=SETTINGS, batch=2, progress=progress, stop=stop)
    assert lime == rows
    assert threading.active_count() == before
    assert fx.open_run(out).ids == ("0.png", "1.png", "2.png", "3.png")
    run = fx.run(convolutional, folder, METHODS, out=out, resume=True)
    assert (run.summary.images, run.summary.skipped) == (4, 4)
    whole = fx.explain(convolutional, folder, METHODS, settings=SETTINGS)
    assert torch.equal(run.found(whole.ids)["lime"].weights, whole["lime"].weights)


def test_a_stop_that_comes_first_explains_nothing(convolutional, folder, tmp_path):
    with pytest.raises(Stopped, match="0 images"):
        fx.run(convolutional, folder, METHODS, out=tmp_path / "run", settings=SETTINGS, stop=lambda: True)
    assert len(fx.open_run(tmp_path / "run")) == 0


def test_a_stop_is_a_function_or_an_event(convolutional, folder, tmp_path):
    with pytest.raises(ArgumentError, match="stop must be None, a function or an Event, got int"):
        fx.run(convolutional, folder, METHODS, out=tmp_path / "run", stop=1)
    event, flag = threading.Event(), Stop()
    assert [as_asked(event)(), as_asked(flag)(), as_asked(None)()] == [False, False, False]
    assert flag.watched
    event.set()
    flag.set()
    assert [as_asked(event)(), as_asked(flag)()] == [True, True]


def test_waiting_for_an_item_ends_where_the_end_is_asked_for():
    goes_on = threading.Event()

    def items():
        goes_on.wait(60)
        yield 1

    begun = time.monotonic()

    def asked():
        if time.monotonic() - begun > 0.2:
            goes_on.set()  # the maker ends too, only later
            return True
        return False

    with pytest.raises(Stopped):
        next(ahead(items(), depth=1, asked=asked))


def test_failed_images_stay_failed_until_asked_for(convolutional, folder, tmp_path):
    out = tmp_path / "run"
    good = (folder / "5.png").read_bytes()
    (folder / "5.png").write_bytes(b"broken")
    run = fx.run(convolutional, folder, METHODS, out=out, settings=SETTINGS)
    assert list(run.failures) == ["5.png"]
    # the same bytes, which another version or another moment may be able to read
    run = fx.run(convolutional, folder, METHODS, out=out, resume=True)
    assert (run.summary.images, run.summary.failed) == (0, 0)
    run = fx.run(convolutional, folder, METHODS, out=out, resume=True, retry_failed=True)
    assert (run.summary.images, run.summary.failed, run.summary.skipped) == (1, 1, 7)
    (folder / "5.png").write_bytes(good)
    run = fx.run(convolutional, folder, METHODS, out=out, resume=True, retry_failed=True)
    assert (run.summary.images, run.summary.failed) == (1, 0)
    assert (len(run), run.failures) == (8, {})
    whole = fx.explain(convolutional, folder, METHODS, settings=SETTINGS)
    assert torch.equal(run.found(whole.ids)["lime"].weights, whole["lime"].weights)
    with pytest.raises(ArgumentError, match="retry_failed must come with resume"):
        fx.run(convolutional, folder, METHODS, out=tmp_path / "other", retry_failed=True)


def test_the_row_of_a_retry_wins(convolutional, tmp_path):
    """A picture that could not be had at first: the later row is the one that is read, whatever came before."""
    buffer = io.BytesIO()
    Image.new("RGB", (24, 24), (200, 10, 10)).save(buffer, "PNG")
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").symlink_to(tmp_path / "late.png")
    (folder / "b.png").write_bytes(buffer.getvalue())
    run = fx.run(convolutional, folder, METHODS, out=tmp_path / "run", settings=SETTINGS, shard_images=1)
    assert list(run.failures) == ["a.png"]
    (tmp_path / "late.png").write_bytes(buffer.getvalue())
    run = fx.run(convolutional, folder, METHODS, out=tmp_path / "run", resume=True, retry_failed=True)
    assert run.generation == 2
    assert run.failures == {}
    assert len(list((tmp_path / "run" / "shards").glob("*.h5"))) == 3
