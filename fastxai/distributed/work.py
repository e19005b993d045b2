"""One worker's work, wherever it runs: its share of a job, and how that ended, as data that can travel."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from fastxai.distributed.job import Job
from fastxai.distributed.sharding import Share
from fastxai.errors import ArgumentError, CannotRun
from fastxai.memory import out_of_memory
from fastxai.overlap import Stopped
from fastxai.pipeline.tally import OnProgress
from fastxai.results import RunSummary, Timing
from fastxai.store.schema import settings_from_dict, settings_to_dict


@dataclass(frozen=True)
class End:
    """How a worker ended.

    kind: "done" (with its summary), "stopped" (as asked), "refused" (`ArgumentError`), "failed" (`CannotRun`), "lost"
    (its device's context, so that the process must be started again), "died" (killed, crashed, or a bug). why: for
    people.
    """

    kind: str
    why: str = ""
    summary: RunSummary | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data."""
        summary = None
        if self.summary is not None:
            summary = dataclasses.asdict(self.summary) | {"settings": settings_to_dict(self.summary.settings)}
        return {"kind": self.kind, "why": self.why, "summary": summary}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> End:
        """The end that `to_dict` described."""
        summary = data["summary"]
        if summary is not None:
            timings = {name: Timing(**one) for name, one in summary["timings"].items()}
            settings = settings_from_dict(summary["settings"])
            summary = RunSummary(**{**summary, "timings": timings, "settings": settings})
        return End(data["kind"], data["why"], summary)


def work(job: Job, share: Share, *, progress: OnProgress, stop: Any) -> End:
    """Do a share of a job. What was finished is committed, however it ends; only bugs come out as exceptions."""
    try:
        made = job.run(share, progress=progress, stop=stop)
    except Stopped as stopped:
        return End("stopped", str(stopped))
    except Exception as error:
        if lost_device(error):
            return End("lost", " ".join(str(error).split())[:300])
        if isinstance(error, ArgumentError):
            return End("refused", str(error))
        if isinstance(error, (CannotRun, OSError)):
            return End("failed", str(error))
        raise
    made.close()
    return End("done", summary=made.summary)


def lost_device(error: BaseException) -> bool:
    """Whether an exception says that the CUDA context is gone: nothing works on it any more in this process."""
    return any(_is_lost(one) for one in _chain(error))


def _is_lost(error: BaseException) -> bool:
    if out_of_memory(error):
        return False
    accelerator: Any = getattr(torch, "AcceleratorError", ())
    return isinstance(error, accelerator) or (isinstance(error, RuntimeError) and "CUDA error" in str(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
