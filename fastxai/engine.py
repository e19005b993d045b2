"""The only loop over rows: asks explainers for rows, packs them into chunks of a fixed shape, reads the model.

Rows of several images fill a chunk; the last one of a block is padded, because floating-point results follow from
the shape of a call and not from a row's place or neighbours in it. Where the model has lanes, chunks are composed and
read side by side; their readings are taken in one after the other, in row order. A chunk that does not fit into memory
is cut in two and read again, and chunks of its kind stay that small. Between chunks the engine looks whether it is to
stop.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from fastxai import ops
from fastxai.errors import CannotRun
from fastxai.explainers import Batch, Block, Explainer, Task
from fastxai.heap import apart
from fastxai.memory import out_of_memory, release
from fastxai.models import Probe, Reading, Recording, Session
from fastxai.overlap import Asked, check
from fastxai.targets import Targets, ranked
from fastxai.transfer import Arrival, Mark, Transfer, on_device, seconds
from fastxai.types import PREDICTIONS, ExplainedBatch, ImageBatch, Segments, Status

T = TypeVar("T")
OnRows = Callable[[str, int], None]  # method name, rows just done


@dataclass
class Spent:
    """Seconds and rows that a stage took, summed over batches."""

    seconds: float = 0.0
    rows: int = 0


@dataclass
class Engine:
    """Explains batches of decoded, segmented pictures with one open model.

    explainers are settled; targets is the rule for classes. `spent` holds the time of "predict" and of each explainer
    by name. `rows`: rows a chunk by probe kind, those of the settings until memory runs out. `asked` is looked at
    before every chunk: where it says so, `Stopped` comes out of `start` and the batch in work is lost. The prediction
    pass records the layers that the CAM methods need.
    """

    session: Session
    explainers: Sequence[Explainer]
    targets: Targets
    seed: int
    on_rows: OnRows = lambda method, rows: None
    asked: Asked = lambda: False
    spent: dict[str, Spent] = field(init=False)
    rows: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.layers = {explainer.name: explainer.layers(self.session) for explainer in self.explainers}
        self.layer_gradients = any(e.layer_gradients for e in self.explainers if self.layers[e.name])
        self.spent = {name: Spent() for name in ("predict", *(explainer.name for explainer in self.explainers))}
        self.rows = dict(self.session.settings.rows)
        self.transfer = Transfer(self.session.device)

    def explain(self, images: ImageBatch) -> ExplainedBatch:
        """Explain every readable picture of a batch; `images.status` and `.errors` take in what fails here."""
        return self.start(images).finish()

    def send(self, images: ImageBatch) -> Arrival:
        """Begin to copy a batch to the device; from any thread, ahead of `start`."""
        tensors = {"pixels": images.pixels}
        if images.inputs is not None:
            tensors["inputs"] = images.inputs
        for key, found in images.segments.items():
            tensors |= {f"labels {key}": found.labels, f"counts {key}": found.counts}
        with self._room(images):
            return self.transfer.up(tensors)

    def start(self, images: ImageBatch, sent: Arrival | None = None) -> Started:
        """Hand all work on a batch to the device, with what `send` gave; on the CPU the work is done then."""
        marks = [_Stage("", self.transfer.mark(), 0)]
        with self._room(images):
            passed = self._predict(images, (sent or self.send(images))(), marks)
            methods = {e.name: self._run(e, passed, marks) if passed.places else {} for e in self.explainers}
            made = {f"{name}/{field}": value for name, found in methods.items() for field, value in found.items()}
            for explainer in self.explainers:
                if found := methods[explainer.name]:
                    made[f"{explainer.name}/finite"] = _finite(explainer, found, passed.batch)
            made["probabilities"] = self.session.model.probabilities(passed.batch.logits)
            made["targets"] = passed.batch.targets
            return Started(self, images, passed.places, self.transfer.down(made), marks)

    @contextmanager
    def _room(self, images: ImageBatch) -> Iterator[None]:
        """Memory that ends outside of chunks of rows, which can be cut, ends the run."""
        try:
            yield
        except Exception as error:
            if not out_of_memory(error):
                raise
            raise CannotRun(
                f"out of memory on {self.session.device} beside the model's work on {len(images)} images: "
                "use a smaller batch"
            ) from error

    def read_rows(self, probe: Probe, count: int, inputs: Callable[[int, int], Tensor], targets: Tensor) -> Reading:
        """Read a probe at `count` (1 or more) rows that are no explainer's, in the chunks of its kind; for other tools.

        inputs(start, stop): model inputs [stop - start, C, H, W] of rows start..stop, asked for when they are needed,
        on the CPU from several threads at once. targets int64 [count, K].
        """
        found: list[Reading] = []

        def read(start: int, stop: int, rows: int) -> Reading:
            reading = self.session.read(probe, pad(inputs(start, stop), rows), pad(targets[start:stop], rows))
            return reading.first(stop - start)

        self._in_chunks("rows", probe.name, count, read, lambda start, stop, reading: found.append(reading))
        gradients = [reading.gradients for reading in found if reading.gradients is not None]
        scores = torch.cat([reading.scores for reading in found])
        return Reading(scores, torch.cat(gradients) if gradients else None)

    # -- the prediction pass

    def _predict(self, images: ImageBatch, there: Mapping[str, Tensor], marks: list[_Stage]) -> _Passed:
        session, device = self.session, self.session.device
        layers = tuple(dict.fromkeys(layer for found in self.layers.values() for layer in found))
        readable = [i for i, status in enumerate(images.status) if status is Status.OK]
        pixels = _pick(there["pixels"], readable)
        if "inputs" in there:
            inputs = _pick(there["inputs"], readable)
        else:
            preprocess = session.model.preprocess
            inputs = ops.normalize(pixels, preprocess.mean, preprocess.std)
        scores, wanted = list[Tensor](), list[Tensor]()
        recorded = list[dict[str, Recording]]()

        def predict(start: int, stop: int, rows: int) -> tuple[Tensor, Tensor, dict[str, Recording]]:
            here = readable[start:stop]
            prediction = session.predict(pad(inputs[start:stop], rows), layers)
            logits = prediction.logits[: len(here)]
            probabilities = session.model.probabilities(logits)
            targets = self.targets.resolve(probabilities, images.labels[here], [images.ids[i] for i in here])
            read = targets.clamp_min(0) if self.layer_gradients else targets[:, :0]  # gradients of no target at all
            found = prediction.recordings(pad(read, rows)) if layers else {}
            return logits, targets, {layer: _first(found[layer], len(here)) for layer in layers}

        def take(start: int, stop: int, found: tuple[Tensor, Tensor, dict[str, Recording]]) -> None:
            scores.append(found[0])
            wanted.append(found[1])
            recorded.append(found[2])

        self._in_chunks("predict", "predict", len(readable), predict, take, layers)
        logits = torch.cat(scores) if scores else inputs.new_zeros(0, session.classes_out)
        targets = torch.cat(wanted) if wanted else torch.zeros(0, self.targets.count, dtype=torch.int64, device=device)
        kept = _usable(images, readable, logits, targets)
        places = [readable[k] for k in kept]
        batch = Batch(
            pixels=_pick(pixels, kept),
            inputs=_pick(inputs, kept),
            digests=[images.digests[i] for i in places],
            targets=_pick(targets, kept),
            logits=_pick(logits, kept),
            segments={
                key: Segments(_pick(there[f"labels {key}"], places), _pick(there[f"counts {key}"], places))
                for key in images.segments
            },
            recordings=(),
            preprocess=session.model.preprocess,
            seed=self.seed,
            dtype=session.dtype,
            given_inputs="inputs" in there,
        )
        found = _Passed(places, batch, _join(recorded, layers, kept))
        marks.append(_Stage("predict", self.transfer.mark(), len(readable)))
        return found

    # -- rows

    def _run(self, explainer: Explainer, passed: _Passed, marks: list[_Stage]) -> Mapping[str, Tensor]:
        layers = self.layers[explainer.name]
        recordings = tuple(passed.recordings[layer] for layer in layers)
        task = explainer.begin(replace(passed.batch, recordings=recordings, layers=layers))
        done = self.drive(explainer.name, task, passed.batch.targets)
        found = task.finish()
        marks.append(_Stage(explainer.name, self.transfer.mark(), done))
        return found

    def drive(self, name: str, task: Task, targets: Tensor) -> int:
        """Read all rows that a task asks for, and say how many they were. Rows that name no targets have those of their
        image, int64 [B, K]."""
        done = 0
        while (block := task.rows()) is not None:
            self._read(name, task, block, targets)
            done += len(block)
        return done

    def _read(self, name: str, task: Task, block: Block, targets: Tensor) -> None:
        def read(start: int, stop: int, rows: int) -> Reading:
            cut = block.cut(start, stop)
            wanted = targets[on_device(cut.image, targets.device)] if cut.targets is None else cut.targets
            reading = self.session.read(block.probe, pad(task.inputs(cut), rows), pad(wanted, rows))
            return reading.first(len(cut))

        def take(start: int, stop: int, reading: Reading) -> None:
            task.fold(block.cut(start, stop), reading)

        self._in_chunks(name, block.probe.name, len(block), read, take)

    def _in_chunks(
        self,
        name: str,
        kind: str,
        count: int,
        read: Callable[[int, int, int], T],
        take: Callable[[int, int, T], None],
        layers: Sequence[str] = (),
    ) -> None:
        """Do `take(start, stop, read(start, stop, rows))` for all of 0..count, in order, in chunks of at most `rows`;
        `Stopped` where that is asked. In lanes several chunks are read at once, ahead of the one that is taken in.

        Work that ran out of memory has changed nothing: it is done again in chunks of half the rows.
        """
        with self.session.at_work(kind, layers) as work:
            begun: deque[tuple[int, int, Callable[[], T]]] = deque()
            start = 0
            while start < count:
                check(self.asked)
                rows, ahead = self.rows[kind], begun[-1][1] if begun else start
                while ahead < count and len(begun) < work.window:
                    stop = min(ahead + rows, count)
                    begun.append((ahead, stop, work.submit(partial(read, ahead, stop, rows))))
                    ahead = stop
                start, stop, result = begun.popleft()
                fits = True
                try:
                    take(start, stop, result())
                except Exception as error:
                    if not out_of_memory(error):
                        raise
                    if rows == 1:
                        raise CannotRun(
                            f"out of memory on {self.session.device} with one row at a time ({kind}): use a smaller "
                            "batch, model or model input, a lower precision, or another device"
                        ) from error
                    fits = False
                if fits:
                    self.on_rows(name, stop - start)
                    start = stop
                else:
                    work.drop()
                    begun.clear()
                    self.rows[kind] = rows // 2
                    release(self.session.device)


@dataclass(frozen=True)
class _Stage:
    """The end of a stage of a batch, its name, and its rows."""

    name: str
    end: Mark
    rows: int


@dataclass(frozen=True)
class Started:
    """A batch whose work is with the device. `finish`, called once, waits for it."""

    engine: Engine
    images: ImageBatch
    places: list[int]
    results: Arrival
    stages: Sequence[_Stage]

    def finish(self) -> ExplainedBatch:
        """The results, on the host; `images.status` and `.errors` take in what failed in the methods."""
        images, results = self.images, self.results()
        for before, stage in zip(self.stages, self.stages[1:], strict=False):
            self.engine.spent[stage.name].seconds += seconds(before.end, stage.end)
            self.engine.spent[stage.name].rows += stage.rows
        self._mark_bad_results(results)
        good = [j for j, i in enumerate(self.places) if images.status[i] is Status.OK]
        places, count = [self.places[j] for j in good], len(images)
        probabilities = _pick(results["probabilities"], good)
        best = ranked(probabilities, PREDICTIONS)
        short = PREDICTIONS - best.shape[1]
        classes = torch.nn.functional.pad(best.to(torch.int32), (0, short), value=-1)
        top = torch.nn.functional.pad(probabilities.gather(1, best), (0, short), value=float("nan"))
        spread = {
            explainer.name: {
                field.name: _place(_pick(results[f"{explainer.name}/{field.name}"], good), places, count)
                for field in explainer.fields()
                if f"{explainer.name}/{field.name}" in results
            }
            for explainer in self.engine.explainers
        }
        targets = _place(_pick(results["targets"], good), places, count)
        return ExplainedBatch(images, _place(classes, places, count), _place(top, places, count), targets, spread)

    def _mark_bad_results(self, results: Mapping[str, Tensor]) -> None:
        """A method whose map is not finite has met NaN or Inf in the model: that image fails, the others do not."""
        for explainer in self.engine.explainers:
            finite = results.get(f"{explainer.name}/finite")
            for i, fine in zip(self.places, [] if finite is None else finite.tolist(), strict=False):
                if not fine and self.images.status[i] is Status.OK:
                    self.images.status[i] = Status.MODEL
                    self.images.errors[i] = f"the model's answers to {explainer.name} are not finite (NaN or Inf)"


@dataclass(frozen=True)
class _Passed:
    """Pictures that the prediction pass let through: their places in the image batch, the batch, what was recorded."""

    places: list[int]
    batch: Batch
    recordings: Mapping[str, Recording]


def pad(rows: Tensor, count: int) -> Tensor:
    """Repeat the last row until there are `count`, in the rows' own memory format."""
    if len(rows) == count:
        return rows
    if len(rows) > count or not len(rows):
        raise AssertionError(f"a chunk of {count} rows cannot hold {len(rows)}")
    full = torch.cat([rows, rows[-1:].expand(count - len(rows), *rows.shape[1:])])
    four = rows.dim() == 4 and rows.is_contiguous(memory_format=torch.channels_last)
    return full.contiguous(memory_format=torch.channels_last) if four else full


def _first(recording: Recording, count: int) -> Recording:
    return Recording(recording.activation[:count], recording.gradients[:count])


def _join(parts: list[dict[str, Recording]], layers: Sequence[str], kept: list[int]) -> dict[str, Recording]:
    """The recordings of all prediction chunks, for the pictures that are kept."""
    return {
        layer: Recording(
            _pick(torch.cat([part[layer].activation for part in parts]), kept),
            _pick(torch.cat([part[layer].gradients for part in parts]), kept),
        )
        for layer in layers
        if parts
    }


def _finite(explainer: Explainer, found: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """Whether all of an image's map is finite, or of what it is painted from: bool [B]."""
    shown = next(field for field in explainer.fields() if field.name in found)
    finite = torch.isfinite(found[shown.name])
    if "segment" in shown.dims:  # behind an image's own segments there is padding
        counts = batch.segments[explainer.segmenters()[0].key].counts
        finite |= torch.arange(finite.shape[-1], device=finite.device) >= counts.reshape(-1, 1, 1)
    return finite.flatten(1).all(1)


def _usable(images: ImageBatch, readable: list[int], logits: Tensor, targets: Tensor) -> list[int]:
    """Places in `readable` of the pictures that go on; marks the others in `images`."""
    finite, named = torch.isfinite(logits).all(1).tolist(), (targets >= 0).all(1).tolist()
    for place, i in enumerate(readable):
        if not finite[place]:
            images.status[i], images.errors[i] = Status.MODEL, "the model's scores are not finite (NaN or Inf)"
        elif not named[place]:
            images.status[i] = Status.NO_TARGET
            images.errors[i] = 'targets is "label", and the label of this image is none of the model\'s classes'
    return [place for place, i in enumerate(readable) if images.status[i] is Status.OK]


def _pick(values: Tensor, places: list[int]) -> Tensor:
    """Rows at ascending places; the tensor itself where they are all."""
    if len(places) == len(values):
        return values
    return values[on_device(torch.tensor(places, dtype=torch.int64), values.device)]


def _place(values: Tensor, places: list[int], count: int) -> Tensor:
    """Rows at their places among `count` images; NaN (floats) or -1 (integers) elsewhere."""
    shape = (count, *values.shape[1:])
    bytes_apart = apart((values.element_size() * math.prod(shape),), np.uint8)
    full = torch.from_numpy(bytes_apart).view(values.dtype).reshape(shape)
    if len(places) < count:
        full.fill_(float("nan") if values.is_floating_point() else -1)
    full[places] = values
    return full
