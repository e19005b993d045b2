"""The limit: the time of the rows that a method needs, as bare passes of the same model.

Inputs are synthetic and lie on the device, chunks are full, nothing is decoded, composed, solved or written. Precision,
compilation, chunk size and lanes are the best that a search finds; a run's own settings are among what is searched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from fastxai.bench.cases import Need
from fastxai.bench.turns import Turn, describe_error
from fastxai.errors import CannotRun
from fastxai.models import InputGradients, Model, Probe, Scores, Session
from fastxai.models.calibrate import fast_bf16
from fastxai.models.compiling import COMPILED_KINDS
from fastxai.models.device import check_compiler
from fastxai.models.lanes import LANE_KINDS
from fastxai.models.runner import waves
from fastxai.types import Settings

PROBES: Mapping[str, Probe] = {"scores": Scores(), "gradients": InputGradients()}
_CPU_SIZES, _CUDA_SIZES = (4, 8, 16, 32), (8, 16, 32, 64, 128, 256)
_LONG = 2.0  # times the budget
_HOPELESS = 0.6  # of the best form's rate at the first size: a form so slow there is not tried at others


@dataclass(frozen=True)
class Form:
    """Settings and rows a call."""

    settings: Settings
    size: int

    def __str__(self) -> str:
        named = [self.settings.precision, "compiled" if self.settings.compile else "eager"]
        if self.settings.fold:
            named.append("folded")
        if self.settings.lanes > 1:
            named.append(f"in {self.settings.lanes} lanes")
        return f"{' '.join(named)}, {self.size} rows"


@dataclass(frozen=True)
class Search:
    """The fastest form, and rows a second of every form that was tried; `failed`: forms that do not run, and why."""

    best: Form
    rates: Mapping[str, float]
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Passes:
    """Bare passes of one kind: need.rows make an image; classes K; layers are what a prediction records."""

    need: Need
    classes: int
    layers: tuple[str, ...] = ()

    def chunk(self, session: Session, size: int) -> tuple[Tensor, Tensor]:
        """Synthetic inputs and targets for a call of `size` rows, on the device."""
        pre = session.model.preprocess
        inputs = waves((size, pre.channels, *pre.size)).to(session.device, session.dtype)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        targets = (torch.arange(self.classes) % session.classes_out).expand(size, -1).contiguous().to(session.device)
        return inputs, targets

    def call(self, session: Session, inputs: Tensor, targets: Tensor) -> None:
        """One call on a chunk, [R, C, H, W] with targets [R, K]."""
        if self.need.kind == "predict":
            found = session.predict(inputs, self.layers)
            if self.layers:
                found.recordings(targets)
        else:
            session.read(PROBES[self.need.kind], inputs, targets)

    def seconds_a_row(self, session: Session, size: int, budget: float) -> float:
        """Mean over about `budget` seconds of calls of `size` rows, two a lane at least, that wait for nothing in
        between."""
        seconds, one = self._ready(session, size)
        return seconds(max(2, int(budget / one))) / size

    def fastest_row(self, session: Session, size: int, budget: float) -> float:
        """The least of three means over a third of the `budget` each: other work on the machine only ever adds time.

        Of one mean, where a call takes so long that it says enough.
        """
        seconds, one = self._ready(session, size)
        rounds, repeats = max(1, int(budget / 3 / one)), 3 if one <= _LONG * budget else 1
        return min(seconds(rounds) for _ in range(repeats)) / size

    def _ready(self, session: Session, size: int) -> tuple[Callable[[int], float], float]:
        """Mean seconds of a call, as a function of how many calls every lane does, and those of one such round."""
        inputs, targets = self.chunk(session, size)

        def timed(rounds: int) -> tuple[float, int]:
            start = now(session.device)
            with session.at_work(self.need.kind) as work:
                calls = rounds * max(1, work.window - 1)
                for done in [work.submit(partial(self.call, session, inputs, targets)) for _ in range(calls)]:
                    done()
            return now(session.device) - start, calls

        def seconds(rounds: int) -> float:
            total, calls = timed(rounds)
            return total / calls

        timed(1)
        return seconds, timed(1)[0]


def search(model: Model, base: Settings, passes: Passes, budget: float = 1.0) -> Search:
    """The form of the model in which `passes` are fastest.

    base: a run's settings. What the model was asked to be (a precision, compiled or not, folded or not) is kept, what
    is "auto" is searched: eager forms first, in the run's lanes; then the fastest of them in one lane and in one for
    each thread; then the fastest compiled, where a compiler is.
    budget: seconds a size.
    """
    tried = _Tried(model, passes, budget)
    if passes.need.kind not in LANE_KINDS:
        base = replace(base, lanes=1)
    own = base.rows[passes.need.kind]
    device = torch.device(base.device)
    sizes = [size for size in (_CUDA_SIZES if device.type == "cuda" else _CPU_SIZES) if size != own]
    tried.take(base, (own,))
    for settings in _eager_forms(model, base, device):
        tried.take(settings, (own, *sizes))
    if tried.best is None:
        raise CannotRun(f"no form of the model runs: {'; '.join(tried.failed.values())}")
    kind = passes.need.kind
    if kind in LANE_KINDS and device.type == "cpu" and base.threads > 1:
        for lanes in dict.fromkeys((1, base.threads)):
            tried.take(replace(tried.best.settings, lanes=lanes), (tried.best.size,))
    if kind in COMPILED_KINDS.get(device.type, ()) and model.compile is not False and _compiles(device):
        for size in dict.fromkeys((own, tried.best.size, 8, 16)):
            tried.take(replace(tried.best.settings, compile=(kind,)), (size,))
    return Search(tried.best, tried.rates, tried.failed)


@dataclass
class _Tried:
    """The forms tried so far."""

    model: Model
    passes: Passes
    budget: float
    rates: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    best: Form | None = None
    at_first: float = 0.0  # the best rate of any form at its first size

    def take(self, settings: Settings, sizes: tuple[int, ...]) -> None:
        """Time the sizes one after the other; a compiled model is compiled for the first of them."""
        settings = replace(settings, rows={**settings.rows, self.passes.need.kind: sizes[0]})
        forms = [form for form in (Form(settings, size) for size in sizes) if str(form) not in self.rates]
        if not forms:
            return
        form = forms[0]
        try:
            with self.model.open(settings) as session:
                for form in forms:
                    rate = self.rates[str(form)] = 1 / self.passes.fastest_row(session, form.size, self.budget)
                    if self.best is None or rate > self.rates[str(self.best)]:
                        self.best = form
                    if form.size == sizes[0]:
                        self.at_first = max(self.at_first, rate)
                        if rate < _HOPELESS * self.at_first:
                            return
        except RuntimeError as error:  # out of memory, no compiler, an operation that this form cannot do
            self.failed[str(form)] = describe_error(error)


def limit_turn(session: Session, passes: Passes, size: int, seconds: float) -> Turn:
    """A turn of bare passes that lasts about `seconds`: seconds an image, which needs `passes.need.rows` rows."""
    return lambda: passes.need.rows * passes.seconds_a_row(session, size, seconds)


def reference(settings: Settings) -> Settings:
    """The same settings for the model as it is: float32, eager, batch norms where they are."""
    return replace(settings, precision="fp32", compile=(), fold=False)


def _eager_forms(model: Model, base: Settings, device: torch.device) -> Iterator[Settings]:
    precisions = [base.precision]
    if model.precision == "auto":
        others = ("bf16", "fp16", "fp32") if device.type == "cuda" else ("bf16", "fp32") if fast_bf16() else ("fp32",)
        precisions += [precision for precision in others if precision != base.precision]
    for precision in precisions:
        for fold in (True, False) if model.fold else (False,):
            yield replace(base, precision=precision, compile=(), fold=fold)


def _compiles(device: torch.device) -> bool:
    try:
        check_compiler(device)
    except RuntimeError:
        return False
    return True


def now(device: torch.device) -> float:
    """The time after all work on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
