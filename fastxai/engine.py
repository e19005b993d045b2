"""The only loop over rows: asks explainers for rows, packs them into chunks of a fixed shape, reads the model.

Rows of several images fill a chunk; the last one of a block is padded, because floating-point results follow from
the shape of a call and not from a row's place or neighbours in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fastxai import ops
from fastxai.explainers import Batch, Block, Explainer, Task
from fastxai.models import Reading, Recording, Session
from fastxai.targets import Targets, ranked
from fastxai.types import PREDICTIONS, ExplainedBatch, ImageBatch, Segments, Status

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
    by name. The prediction pass records the layers that the CAM methods need.
    """

    session: Session
    explainers: Sequence[Explainer]
    targets: Targets
    seed: int
    on_rows: OnRows = lambda method, rows: None
    spent: dict[str, Spent] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layers = {explainer.name: explainer.layers(self.session) for explainer in self.explainers}
        self.spent = {name: Spent() for name in ("predict", *(explainer.name for explainer in self.explainers))}

    def explain(self, images: ImageBatch) -> ExplainedBatch:
        """Explain every readable picture of a batch; `images.status` and `.errors` take in what fails here."""
        passed = self._predict(images)
        methods = {e.name: self._run(e, passed) if passed.places else {} for e in self.explainers}
        self._mark_bad_results(images, passed, methods)
        return self._assemble(images, passed, methods)

    # -- the prediction pass

    def _predict(self, images: ImageBatch) -> _Passed:
        began = time.perf_counter()
        session, device = self.session, self.session.device
        rows = session.settings.rows["predict"]
        layers = tuple(dict.fromkeys(layer for found in self.layers.values() for layer in found))
        readable = [i for i, status in enumerate(images.status) if status is Status.OK]
        pixels = images.pixels[readable].to(device)
        given = images.inputs is not None
        if images.inputs is not None:
            inputs = images.inputs[readable].to(device)
        else:
            preprocess = session.model.preprocess
            inputs = ops.normalize(pixels, preprocess.mean, preprocess.std)
        scores, wanted, recorded = [], [], []
        for start in range(0, len(readable), rows):
            here = readable[start : start + rows]
            prediction = session.predict(pad(inputs[start : start + rows], rows), layers)
            scores.append(prediction.logits[: len(here)])
            probabilities = session.model.probabilities(scores[-1])
            ids = [images.ids[i] for i in here]
            wanted.append(self.targets.resolve(probabilities, images.labels[here], ids))
            if layers:
                found = prediction.recordings(pad(wanted[-1].clamp_min(0), rows))
                recorded.append({layer: _first(found[layer], len(here)) for layer in layers})
            self.on_rows("predict", len(here))
        logits = torch.cat(scores) if scores else inputs.new_zeros(0, session.classes_out)
        targets = torch.cat(wanted) if wanted else torch.zeros(0, self.targets.count, dtype=torch.int64, device=device)
        kept = _usable(images, readable, logits, targets)
        places = [readable[k] for k in kept]
        batch = Batch(
            pixels=pixels[kept],
            inputs=inputs[kept],
            digests=[images.digests[i] for i in places],
            targets=targets[kept],
            logits=logits[kept],
            segments=_pick_segments(images, places, device),
            recordings=(),
            preprocess=session.model.preprocess,
            seed=self.seed,
            dtype=session.dtype,
            given_inputs=given,
        )
        self._spend("predict", began, len(readable))
        return _Passed(places, batch, _join(recorded, layers, kept))

    # -- rows

    def _run(self, explainer: Explainer, passed: _Passed) -> Mapping[str, Tensor]:
        began, done = time.perf_counter(), 0
        recordings = tuple(passed.recordings[layer] for layer in self.layers[explainer.name])
        task = explainer.begin(replace(passed.batch, recordings=recordings))
        while (block := task.rows()) is not None:
            self._read(explainer.name, task, block, passed.batch.targets)
            done += len(block)
        found = task.finish()
        self._spend(explainer.name, began, done)
        return found

    def _read(self, name: str, task: Task, block: Block, targets: Tensor) -> None:
        rows = self.session.settings.rows[block.probe.name]
        for start in range(0, len(block), rows):
            cut = block.cut(start, start + rows)
            wanted = targets[cut.image] if cut.targets is None else cut.targets
            reading = self.session.read(block.probe, pad(task.inputs(cut), rows), pad(wanted, rows))
            gradients = None if reading.gradients is None else reading.gradients[: len(cut)]
            task.fold(cut, Reading(reading.scores[: len(cut)], gradients))
            self.on_rows(name, len(cut))

    # -- results

    def _mark_bad_results(
        self, images: ImageBatch, passed: _Passed, methods: Mapping[str, Mapping[str, Tensor]]
    ) -> None:
        """A method whose map is not finite has met NaN or Inf in the model: that image fails, the others do not."""
        for name, found in methods.items():
            if found:
                finite = torch.isfinite(found["maps"]).flatten(1).all(1).tolist()
                for i, fine in zip(passed.places, finite, strict=True):
                    if not fine and images.status[i] is Status.OK:
                        images.status[i] = Status.MODEL
                        images.errors[i] = f"the model's answers to {name} are not finite (NaN or Inf)"

    def _assemble(
        self, images: ImageBatch, passed: _Passed, methods: Mapping[str, Mapping[str, Tensor]]
    ) -> ExplainedBatch:
        good = [j for j, i in enumerate(passed.places) if images.status[i] is Status.OK]
        places = [passed.places[j] for j in good]
        count = len(images)
        probabilities = self.session.model.probabilities(passed.batch.logits)[good].cpu()
        best = ranked(probabilities, PREDICTIONS)
        short = PREDICTIONS - best.shape[1]
        classes = torch.nn.functional.pad(best.to(torch.int32), (0, short), value=-1)
        top = torch.nn.functional.pad(probabilities.gather(1, best), (0, short), value=float("nan"))
        spread = {}
        for explainer in self.explainers:
            found = methods[explainer.name]
            spread[explainer.name] = {
                name: _place(found[name][good].cpu(), places, count)
                for name in (f.name for f in explainer.fields())
                if name in found
            }
        return ExplainedBatch(
            images,
            _place(classes, places, count),
            _place(top, places, count),
            _place(passed.batch.targets[good].cpu(), places, count),
            spread,
        )

    def _spend(self, name: str, began: float, rows: int) -> None:
        if self.session.device.type == "cuda":
            torch.cuda.synchronize(self.session.device)
        self.spent[name].seconds += time.perf_counter() - began
        self.spent[name].rows += rows


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
            torch.cat([part[layer].activation for part in parts])[kept],
            torch.cat([part[layer].gradients for part in parts])[kept],
        )
        for layer in layers
        if parts
    }


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


def _pick_segments(images: ImageBatch, places: list[int], device: torch.device) -> dict[str, Segments]:
    return {
        key: Segments(found.labels[places].to(device), found.counts[places].to(device))
        for key, found in images.segments.items()
    }


def _place(values: Tensor, places: list[int], count: int) -> Tensor:
    """Rows at their places among `count` images; NaN (floats) or -1 (integers) elsewhere."""
    empty = float("nan") if values.is_floating_point() else -1
    full = torch.full((count, *values.shape[1:]), empty, dtype=values.dtype)
    full[places] = values
    return full
