"""Threads beside a model on the CPU work alone; the model and the caller's own threads keep theirs."""

from __future__ import annotations

import threading

import pytest
import torch

import fastxai as fx
from fastxai.pipeline import calls, streaming
from fastxai.threads import beside_model, feeders, set_threads


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def seen_by_a_thread() -> int:
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return seen[0]


@pytest.mark.usefixtures("two_threads")
def test_helpers_of_a_run_work_alone(convolutional, noise_pictures, tmp_path, monkeypatch):
    seen = []
    segment, append = streaming.segment_batch, calls.ShardWriter.append
    monkeypatch.setattr(
        streaming, "segment_batch", lambda *given: (seen.append(("ahead", torch.get_num_threads())), segment(*given))
    )
    monkeypatch.setattr(
        calls.ShardWriter, "append", lambda *given: (seen.append(("writer", torch.get_num_threads())), append(*given))
    )
    settings = fx.Settings(rows={"predict": 2, "scores": 4, "gradients": 4}, threads=2)

    def progress(_):
        seen.append(("model", torch.get_num_threads()))

    lime = fx.Lime(samples=8, segments=fx.Grid(rows=2, columns=2))
    fx.run(convolutional, noise_pictures(3), lime, out=tmp_path / "run", settings=settings, progress=progress)
    assert {count for who, count in seen if who == "model"} == {2}
    assert {who: count for who, count in seen if who != "model"} == {"ahead": 1, "writer": 1}
    assert torch.get_num_threads() == seen_by_a_thread() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_number_lasts_that_was_set_before_the_thread_looked():
    def begin():
        set_threads(1)
        begun.set()
        assert later.wait(20)
        seen.append(torch.get_num_threads())

    begun, later, seen = threading.Event(), threading.Event(), []
    thread = threading.Thread(target=begin)
    thread.start()
    assert begun.wait(20)
    torch.set_num_threads(3)
    later.set()
    thread.join()
    assert seen == [1]


@pytest.mark.usefixtures("two_threads")
def test_beside_a_gpu_they_keep_their_threads():
    with beside_model(torch.device("cuda")) as begin:
        begin()
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("cores", "count"), [(1, 2), (2, 2), (5, 2), (6, 3), (16, 8), (96, 8)])
def test_larger_machines_decode_and_segment_in_more_threads(cores, count, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    assert feeders() == count


def test_a_run_decodes_and_segments_in_so_many_threads(convolutional, noise_pictures, monkeypatch):
    asked = []
    load, pool = streaming.load_batches, streaming.ThreadPoolExecutor

    def loading(*given, workers, **named):
        asked.append(workers)
        return load(*given, workers=workers, **named)

    def pooling(most, *given, **named):
        asked.append(most)
        return pool(most, *given, **named)

    monkeypatch.setattr(streaming, "feeders", lambda: 3)
    monkeypatch.setattr(streaming, "load_batches", loading)
    monkeypatch.setattr(streaming, "ThreadPoolExecutor", pooling)
    fx.explain(convolutional, noise_pictures(2), fx.GradCam(), settings=fx.Settings())
    assert asked == [3, 3]
