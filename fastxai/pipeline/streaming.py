"""The stages side by side: decode, segment and send ahead of the engine's work, results out in order."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, nullcontext

from fastxai.engine import Engine, Started
from fastxai.heap import SteadyHeap
from fastxai.images import load_batches
from fastxai.overlap import Stopped, ahead, check, late
from fastxai.pipeline.plan import Plan
from fastxai.pipeline.tally import OnProgress, Tally
from fastxai.segments import segment_batch
from fastxai.threads import beside_model, feeders
from fastxai.transfer import Arrival
from fastxai.types import ExplainedBatch, ImageBatch


def stream(
    plan: Plan, engine: Engine, batch: int, done: Mapping[str, str] | None, progress: OnProgress | None
) -> Iterator[ExplainedBatch]:
    """Explain every picture that is not `done` (image id -> digest), `batch` after `batch`.

    Where the engine is asked to stop, the batches that are finished still come out, then `Stopped` is raised; the one
    in work is lost.
    """
    model, asked, workers = plan.model, engine.asked, feeders()
    rates = engine.session.settings.rates
    seconds = sum(count / rates.get(kind, float("nan")) for kind, count in {"predict": 1, **plan.rows}.items())
    tally = Tally(len(plan.source), 1 + sum(plan.rows.values()), seconds, progress)
    engine.on_rows = tally.rows_done

    def skip(image_id: str, digest: str) -> bool:
        check(asked)  # a run that is almost done may skip for minutes before there is a batch
        known = done is not None and done.get(image_id) == digest
        if known:
            tally.skipped()
        return known

    loaded = load_batches(
        plan.source,
        model.preprocess,
        batch=batch,
        class_names=model.classes,
        class_keys=model.class_keys,
        workers=workers,
        prefetch=-(-2 * workers // batch),
        skip=skip if done else None,
    )
    tally.starts()
    ended: list[Stopped] = []

    def started(batches: Iterator[tuple[ImageBatch, Arrival]]) -> Iterator[Started]:
        try:
            for images, sent in batches:
                yield engine.start(images, sent)
        except Stopped as stopped:
            ended.append(stopped)  # what was started before is finished first

    with ExitStack() as stack:
        begin, heap = stack.enter_context(_beside(engine, steady=bool(plan.rows) and len(plan.source) > batch))
        pool = stack.enter_context(ThreadPoolExecutor(workers, "fastxai-segments", initializer=begin))
        sent = _sent(plan, engine, loaded, pool)
        batches = stack.enter_context(closing(ahead(sent, depth=1, asked=asked, begin=begin)))
        # At an early end first of all: a large batch may have seconds of segmenting before it.
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        for begun in late(started(batches), engine.transfer.behind):
            explained = begun.finish()
            tally.images_done(explained.images)
            yield explained
            if heap is not None and begun.places:
                heap.settle()
    if ended:
        raise ended[0]


@contextmanager
def _beside(engine: Engine, steady: bool) -> Iterator[tuple[Callable[[], None], SteadyHeap | None]]:
    """What threads computing beside the engine call first; on a CPU, also the heap of a run, if that is to be `steady`.

    Worth preparing for several batches with rows: predictions alone keep to the same memory by themselves.
    """
    session = engine.session
    steady = steady and session.device.type == "cpu"
    with (
        beside_model(session.device) as alone,
        SteadyHeap(session.on_threads) if steady else nullcontext() as heap,
    ):
        if heap is None:
            yield alone, None
            return

        def begin() -> None:
            alone()
            heap.begin()

        yield begin, heap


def _sent(
    plan: Plan, engine: Engine, batches: Iterator[ImageBatch], pool: Executor
) -> Generator[tuple[ImageBatch, Arrival]]:
    """The batches with their segments, on their way to the device."""
    segmenters = [segmenter for explainer in plan.explainers for segmenter in explainer.segmenters()]
    with closing(batches) if isinstance(batches, Generator) else ExitStack():
        for batch in batches:
            segment_batch(batch, segmenters, pool)
            yield batch, engine.send(batch)
