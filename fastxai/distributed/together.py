"""What many workers have done, as one progress and one summary."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from fastxai.distributed.sharding import Share
from fastxai.results import RunSummary, Timing
from fastxai.store import Run
from fastxai.types import Progress


def merged_progress(workers: Sequence[Sequence[Progress | None]], seconds: float) -> Progress | None:
    """The sum over workers, each with the latest progress of its lives; None until all of them have told of theirs.

    A worker in the place of a dead one finds less to do: what it skips was done before.
    """
    parts = []
    for lives in workers:
        told = [life for life in lives if life is not None]
        if not told:
            return None
        parts.append(_of_lives(told))
    return Progress(
        images=sum(part.images for part in parts),
        images_total=sum(part.images_total for part in parts),
        failed=sum(part.failed for part in parts),
        method=next((part.method for part in parts if part.method), ""),
        rows=sum(part.rows for part in parts),
        rows_total=sum(part.rows_total for part in parts),
        seconds=seconds,
        expected=max(part.expected for part in parts),
    )


def _of_lives(lives: Sequence[Progress]) -> Progress:
    first, last = lives[0], lives[-1]
    images, rows = max(first.images_total, last.images_total), max(first.rows_total, last.rows_total)
    return replace(
        last,
        images=last.images + images - last.images_total,
        images_total=images,
        rows=last.rows + rows - last.rows_total,
        rows_total=rows,
    )


def merged_summary(
    made: Run,
    summaries: Mapping[Share, RunSummary],
    restarted: Collection[Share],
    before: Collection[str],
    seconds: float,
) -> RunSummary:
    """One summary of all workers' own; seconds: of the whole.

    restarted: shares whose summary is that of the last worker only. before: ids that needed no work when it began.
    Times of workers that died are not known, what they committed is counted.
    """
    parts = [_whole(made, share, one, before) if share in restarted else one for share, one in summaries.items()]
    timings: dict[str, Timing] = {}
    for part in parts:
        for name, spent in part.timings.items():
            so_far = timings.get(name, Timing(0.0, 0))
            timings[name] = Timing(so_far.seconds + spent.seconds, so_far.rows + spent.rows)
    return RunSummary(
        images=sum(part.images for part in parts),
        failed=sum(part.failed for part in parts),
        skipped=sum(part.skipped for part in parts),
        seconds=seconds,
        calibration_seconds=0.0,
        timings=timings,
        settings=made.manifest.settings,
        rows={kind: min(part.rows[kind] for part in parts) for kind in parts[0].rows},
        batch=max(part.batch for part in parts),
    )


def _whole(made: Run, share: Share, last: RunSummary, before: Collection[str]) -> RunSummary:
    """The summary of a share's last worker, with the images that those before it brought into the run."""
    failures = made.failures
    new = [image for image in made.ids if share.holds(image) and image not in before]
    images = max(last.images, len(new))
    failed = max(last.failed, sum(image in failures for image in new))
    return replace(last, images=images, failed=failed, skipped=last.images + last.skipped - images)
