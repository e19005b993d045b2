"""Many workers, one run: start one a share, start it again where it died, and tell how far all of them are.

A worker that died (killed, crashed, lost its GPU's context) is started again, `DEATHS` times at most, and not when it
died twice in a row without a committed shard in between: then the same would happen again. Its share is left; the
others finish theirs, and the run ends with `CannotRun`. A worker that says why it cannot run (no space, a wrong
argument) ends the run at once, because the others would meet the same: they are asked to stop, and commit what they
have. So does a worker that somebody else asked to stop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fastxai.distributed.job import Job
from fastxai.distributed.sharding import Share
from fastxai.distributed.together import merged_progress, merged_summary
from fastxai.distributed.work import End
from fastxai.errors import ArgumentError, CannotRun
from fastxai.overlap import Asked, Stopped
from fastxai.pipeline.tally import OnProgress
from fastxai.results import RunSummary
from fastxai.store import Run, open_run
from fastxai.store.guard import list_shards
from fastxai.types import Progress

DEATHS = 3
PATIENCE = 7.0  # seconds that workers which were asked to stop may take before they are killed
_LOOK = 0.05  # seconds between looks at the workers


class Worker(Protocol):
    """A worker that was started: a process, an actor."""

    def look(self) -> tuple[Progress | None, End | None]:
        """The latest progress and how it ended; None before the first, and while it is at work."""

    def stop(self) -> None:
        """Ask it to stop: it finishes the chunk in hand, commits and ends."""

    def kill(self) -> None:
        """End it now, if it has not ended."""


Start = Callable[[Share], Worker]


@dataclass
class _Post:
    """A share, the worker that has it, and what became of those before."""

    share: Share
    worker: Worker
    shards: int  # committed by this share when its worker started
    lives: list[Progress | None] = field(default_factory=lambda: [None])  # the latest of each life
    fruitless: int = 0  # deaths in a row without a new shard
    end: End | None = None


def supervise(job: Job, workers: int, start: Start, *, progress: OnProgress | None, asked: Asked) -> Run:
    """Explain all shares of the job's run, which was begun, one worker each; returns it, with the summary of all.

    start: starts the worker of a share, the first one or one in the place of another. asked: looked at all the time;
    workers are asked to stop then, and `Stopped` is raised when they have.
    """
    began = time.perf_counter()
    with open_run(job.out) as there:
        before = there.done(failed=not job.retry_failed)
    posts: list[_Post] = []
    try:
        for share in [Share(index, workers) for index in range(workers)]:
            posts.append(_Post(share, start(share), _shards(job.out, share)))
        _watch(job.out, posts, start, progress, asked, began)
    finally:
        _end(posts)
    summaries: dict[Share, RunSummary] = {}
    for post in posts:
        if post.end is None or post.end.summary is None:
            raise CannotRun(
                f"worker {post.share} died {len(post.lives)} times ({post.end.why if post.end else ''}) and was given "
                "up; what was committed is safe, resume goes on from there"
            )
        summaries[post.share] = post.end.summary
    made = open_run(job.out)
    restarted = [post.share for post in posts if len(post.lives) > 1]
    made.summary = merged_summary(made, summaries, restarted, before, time.perf_counter() - began)
    return made


def _watch(
    out: str | Path, posts: Sequence[_Post], start: Start, progress: OnProgress | None, asked: Asked, began: float
) -> None:
    """Until every worker has ended for good; `Stopped`, `CannotRun` or `ArgumentError` where that is the end of all."""
    while any(post.end is None for post in posts):
        if asked():
            raise Stopped("stopped as asked; resume goes on from there")
        news = False
        for post in posts:
            if post.end is None:
                seen, end = post.worker.look()
                news |= seen != post.lives[-1]
                post.lives[-1] = seen
                if end is not None:
                    _ended(out, post, end, start)
        if news and progress is not None:
            together = merged_progress([post.lives for post in posts], time.perf_counter() - began)
            if together is not None:
                progress(together)
        time.sleep(_LOOK)


def _ended(out: str | Path, post: _Post, end: End, start: Start) -> None:
    if end.kind == "refused":
        raise ArgumentError(end.why)
    if end.kind == "failed":
        raise CannotRun(end.why)
    if end.kind == "stopped":
        raise Stopped(f"worker {post.share} was asked to stop; resume goes on from there")
    if end.kind == "done":
        post.end = end
        return
    shards = _shards(out, post.share)
    post.fruitless = 0 if shards > post.shards else post.fruitless + 1
    if post.fruitless == 2 or len(post.lives) > DEATHS:
        post.end = end
        return
    post.shards = shards
    post.worker = start(post.share)
    post.lives.append(None)


def _end(posts: Sequence[_Post]) -> None:
    """Let nobody live on: those still at work are asked to stop, and killed where they do not."""
    left = [post.worker for post in posts if post.end is None]
    for worker in left:
        worker.stop()
    late = time.monotonic() + PATIENCE
    while any(worker.look()[1] is None for worker in left) and time.monotonic() < late:
        time.sleep(_LOOK)
    for post in posts:
        post.worker.kill()


def _shards(out: str | Path, share: Share) -> int:
    return sum(shard.worker == share.worker for shard in list_shards(Path(out)))
