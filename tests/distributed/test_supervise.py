"""Restarts, ends and sums, with workers that only pretend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

import fastxai as fx
from fastxai.distributed import Job, Share
from fastxai.distributed import supervise as module
from fastxai.distributed.together import merged_progress
from fastxai.distributed.work import End, lost_device, work
from fastxai.errors import ArgumentError, CannotRun
from fastxai.overlap import Stop, Stopped
from fastxai.results import RunSummary, Timing
from fastxai.types import Progress, Settings

DIED = End("died", "killed by signal 9")
SUMMARY = RunSummary(3, 1, 2, 1.0, 0.5, {"gradcam": Timing(2.0, 3)}, Settings(), {"predict": 8}, 4)
DONE = End("done", summary=SUMMARY)
AT = Progress(images=2, images_total=10, failed=0, method="lime", rows=20, rows_total=100, seconds=1.0)


class Pretender:
    """Ends as it is told at the first look."""

    def __init__(self, end: End | None) -> None:
        self.end, self.asked, self.killed = end, False, False

    def look(self) -> tuple[Progress | None, End | None]:
        return AT, End("stopped") if self.asked else self.end

    def stop(self) -> None:
        self.asked = True

    def kill(self) -> None:
        self.killed = True


@pytest.fixture
def job(convolutional, noise_pictures, tmp_path) -> Job:
    fx.run(convolutional, noise_pictures(1), fx.GradCam(), out=tmp_path / "run", settings=Settings())
    return Job(("pictures",), str(tmp_path / "run"), ("gradcam",))


@pytest.fixture
def shards(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Committed shards by worker name, as the supervisor sees them."""
    counts: dict[str, int] = {}
    monkeypatch.setattr(module, "_shards", lambda out, share: counts.get(share.worker, 0))
    return counts


def watch(job: Job, workers: int, start: Callable[[Share], Pretender], asked: Callable[[], bool] = lambda: False):
    return module.supervise(job, workers, start, progress=None, asked=asked)


def test_a_worker_is_started_again_while_it_commits(job: Job, shards: dict[str, int]) -> None:
    ends = [DIED, DIED, DIED, DONE]

    def start(share: Share) -> Pretender:
        shards[share.worker] = 4 - len(ends)
        return Pretender(ends.pop(0))

    made = watch(job, 1, start)
    assert ends == []
    assert made.summary.timings["gradcam"].rows == 3


def test_a_worker_that_died_four_times_is_given_up(job: Job, shards: dict[str, int]) -> None:
    lives = []

    def start(share: Share) -> Pretender:
        lives.append(share)
        shards[share.worker] = len(lives)
        return Pretender(DIED)

    with pytest.raises(CannotRun, match=r"worker 0/1 died 4 times \(killed by signal 9\)"):
        watch(job, 1, start)
    assert len(lives) == 4


def test_a_worker_that_died_twice_for_nothing_is_given_up_and_the_others_finish(
    job: Job, shards: dict[str, int]
) -> None:
    lives = []

    def start(share: Share) -> Pretender:
        lives.append(share.index)
        return Pretender(DIED if share.index else DONE)

    with pytest.raises(CannotRun, match="worker 1/2 died 2 times"):
        watch(job, 2, start)
    assert lives == [0, 1, 1]


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (End("refused", "a must be b"), ArgumentError),
        (End("failed", "no space"), CannotRun),
        (End("stopped", "worker 1/2 was asked to stop"), Stopped),
    ],
)
def test_what_ends_all_stops_the_others(job: Job, shards: dict[str, int], end: End, error: type[Exception]) -> None:
    made = []

    def start(share: Share) -> Pretender:
        made.append(Pretender(end if share.index else None))
        return made[-1]

    with pytest.raises(error, match=end.why):
        watch(job, 2, start)
    assert made[0].asked
    assert all(worker.killed for worker in made)


def test_a_stop_reaches_all(job: Job, shards: dict[str, int]) -> None:
    made = []

    def start(share: Share) -> Pretender:
        made.append(Pretender(None))
        return made[-1]

    with pytest.raises(Stopped):
        watch(job, 3, start, asked=lambda: len(made) == 3)
    assert all(worker.asked for worker in made)


def test_progress_is_the_sum_and_counts_what_the_dead_committed() -> None:
    other = replace(AT, images=5, rows=50, expected=7.0, failed=2)
    assert merged_progress([[AT], [None]], 3.0) is None
    both = merged_progress([[AT], [other]], 3.0)
    assert (both.images, both.images_total, both.failed, both.rows, both.rows_total) == (7, 20, 2, 70, 200)
    assert both.seconds == 3.0
    # 2 images done and 10 to do; the next worker skips 2 and has done 3 of its 8
    next_life = replace(AT, images=3, images_total=8, rows=30, rows_total=80)
    after = merged_progress([[AT, next_life]], 3.0)
    assert (after.images, after.images_total, after.rows, after.rows_total) == (5, 10, 50, 100)
    assert merged_progress([[AT, None]], 3.0).images == 2


def test_an_end_travels_as_json() -> None:
    import json

    assert End.from_dict(json.loads(json.dumps(DONE.to_dict()))) == DONE
    assert End.from_dict(DIED.to_dict()) == DIED


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), False),
        (RuntimeError("shapes do not fit"), False),
    ],
)
def test_a_lost_device_is_told_from_other_errors(error: Exception, lost: bool) -> None:
    assert lost_device(error) is lost
    wrapped = CannotRun("the model failed")
    wrapped.__cause__ = error
    assert lost_device(wrapped) is lost


def test_work_tells_how_it_ended(tmp_path) -> None:
    job = Job((str(tmp_path / "nowhere"),), str(tmp_path / "run"), ("gradcam",))
    end = work(job, Share(0, 1), progress=lambda progress: None, stop=Stop())
    assert end.kind == "refused"
    assert "nowhere" in end.why
