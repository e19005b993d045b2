"""Settling precision, lanes, rows a chunk and compilation before a run starts, by short timings.

Floating-point results depend on the shape of a call, so these numbers are measured once, recorded in the run, and
read by resumes and by other workers.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from fastxai.config import check_int
from fastxai.errors import ArgumentError, CannotRun
from fastxai.memory import release
from fastxai.models.compiling import COMPILED_KINDS, MOST_TARGETS
from fastxai.models.device import check_precision, find_device
from fastxai.models.lanes import LANE_KINDS
from fastxai.models.model import Model
from fastxai.models.probes import (
    DirectionalDerivatives,
    InjectedScores,
    InputGradients,
    Probe,
    Scores,
    pack_directions,
    pack_injections,
)
from fastxai.models.runner import waves
from fastxai.models.session import Session
from fastxai.types import Settings

# Rows a chunk where not searched: predictions never are, an image has only one; a row of directions holds many; for
# injected rows, what lies before the layer is mostly run once a chunk.
_ROWS = {"predict": 8, "scores": 8, "gradients": 8, "directions": 2, "injected": 16}
_CPU_ROWS, _CUDA_ROWS = (4, 8, 16, 32), (4, 8, 16, 32, 64, 128, 256)
_BUDGET = 2.5  # seconds of timing a probe kind
_COMPILED = 120.0  # seconds of eager work from which on a compilation (20 to 40 s for a third of the time) pays
_SEARCHED = 20 * _BUDGET  # seconds that a kind's rows must take before a search for their chunk size can pay
_WORTH = 1.03  # a larger chunk must be this much faster: it costs memory and padding
_LANES, _MOST_LANES = 4, 16  # where not searched, and at most: each holds the activations of a chunk
_WORTH_ALONE = 1.1  # no lanes must be this much faster: activations then lie among all that the main thread holds
_WORTH_BF16 = 1.10  # bf16 must be this much faster on a CPU to be worth its rounding
# Roughly: which kind a run mostly consists of.
_COST = {"predict": 1, "scores": 1, "gradients": 4, "directions": 12, "injected": 1}
_TARGETS = 16  # timed at most; where there are more, explainers spread them over rows or cannot do them
_PROBES: dict[str, Probe] = {
    "scores": Scores(),
    "gradients": InputGradients(),
    "directions": DirectionalDerivatives(),
}


@dataclass(frozen=True)
class _Reads:
    """What is read of a row: the scores of so many targets, layers in predictions, and the layer of injected rows."""

    targets: int
    layers: tuple[str, ...]
    injected: str

    def call(self, session: Session, kind: str, rows: int) -> Callable[[], object]:
        """One call on a chunk of noise."""
        inputs, targets = _noise(session, rows, kind), _targets(session, rows, self.targets)
        if kind == "injected":
            probe = InjectedScores(self.injected, session.map_shape(self.injected))
            packed = pack_injections(inputs, waves((rows, *probe.shape)).to(session.device))
            return partial(session.read, probe, packed, targets)
        if kind == "predict":
            return lambda: session.predict(inputs, self.layers).recordings(targets)
        return partial(session.read, _PROBES[kind], inputs, targets)


def calibrate(
    model: Model,
    *,
    kinds: Mapping[str, int],
    targets: int = 1,
    layers: Sequence[str] = (),
    injected: str = "",
    threads: int | None = None,
) -> Settings:
    """Settings for explaining with `model`.

    kinds: probe kind ("predict", "scores", "gradients", "directions", "injected") -> rows expected in the whole run,
    which bounds the chunks worth trying and says whether a compilation can pay; targets: K of the probes; layers: what
    predictions will record (they must run in the settled precision); injected: the layer that injected rows replace,
    one of them if there are several; threads: of torch, None for as many as there are.
    `Settings.reasons` says for people why each was chosen.
    """
    for kind in kinds:
        if kind not in _ROWS:
            raise ArgumentError(f"kinds must be of {', '.join(_ROWS)}, got {kind!r}")
    if kinds.get("injected") and not injected:
        raise ArgumentError("injected must be a layer where rows are injected, got ''")
    device, reads = find_device(model.device), _Reads(min(targets, _TARGETS), tuple(layers), injected)
    if threads is not None:
        check_int("threads", threads, 1)
    base = Settings(str(device), fold=model.fold, threads=threads or torch.get_num_threads())
    reasons = {"device": _why_device(device), "threads": "as found" if threads is None else "as asked"}
    precision, reasons["precision"] = _precision(model, base, kinds, reads)
    base = replace(base, precision=precision)
    if device.type == "cpu" and any(kinds.get(kind) for kind in LANE_KINDS):
        base = replace(base, lanes=min(base.threads, _LANES))

    rows = dict(_ROWS)
    reasons["rows"] = "not searched: no rows beyond predictions"
    # Timed eagerly also for compiled runs: a compilation a size would cost more than the search can gain.
    with model.open(base) as session:
        reasons["fold"] = f"{session.folded} batch norms are part of convolutions" if base.fold else "as asked"
        if layers:
            reads.call(session, "predict", _ROWS["predict"])()
        said, rates = [], dict[str, float]()
        for kind, expected in kinds.items():
            (first,) = _seconds([session], kind, _ROWS[kind], reads, 0.0)
            if kind == "predict" or expected * first / _ROWS[kind] < _SEARCHED:
                rates[kind] = round(_ROWS[kind] / first, 2)
                why = "fixed" if kind == "predict" else "too few rows to search"
                said.append(f"{kind} {_ROWS[kind]}: {rates[kind]:.0f}/s, {why}")
                continue
            rows[kind], seen = _best_rows(session, kind, expected, reads)
            rates[kind] = round(seen.get(rows[kind], max(seen.values())), 2)
            said.append(f"{kind} " + ", ".join(f"{size}: {speed:.0f}/s" for size, speed in seen.items()))
        if said:
            reasons["rows"] = "rows a second by rows a chunk: " + "; ".join(said)
    base, reasons["lanes"] = _lanes(model, replace(base, rows=rows, rates=rates), kinds, reads)
    said = []
    for kind in [kind for kind in COMPILED_KINDS.get(device.type, ()) if kinds.get(kind)]:
        base, why = _compile(model, base, kind, kinds[kind], reads)
        said.append(f"{kind}: {why}")
    reasons["compile"] = "; ".join(said) or "eager: this run reads nothing that can be compiled"
    return replace(base, reasons=reasons)


def _lanes(model: Model, usual: Settings, kinds: Mapping[str, int], reads: _Reads) -> tuple[Settings, str]:
    """The settings with the usual number of lanes, or with another that reads more rows a second; and why.

    Timed for the kind of rows that takes longest, and eagerly also for compiled runs, which gain about as much.
    """
    if usual.device != "cpu":
        return usual, "one on a GPU, which does its work side by side anyway"
    if usual.threads == 1:
        return usual, "one for one thread"
    kind = max(LANE_KINDS, key=lambda kind: _COST[kind] * kinds.get(kind, 0))
    if not kinds.get(kind):
        return usual, "one: nothing of this run is read in lanes"
    if kinds[kind] / usual.rates[kind] < _SEARCHED:
        return usual, f"{usual.lanes}: too few rows to search"
    counts = [count for count in (1, 2, 4, 8, _MOST_LANES) if count < usual.threads]
    counts += [usual.threads] if usual.threads <= _MOST_LANES else []
    with ExitStack() as stack:
        sessions = [stack.enter_context(model.open(replace(usual, lanes=count))) for count in counts]
        found = _seconds(sessions, kind, usual.rows[kind], reads, _BUDGET)
    rates = {count: usual.rows[kind] / seconds for count, seconds in zip(counts, found, strict=True)}
    handicap = {usual.lanes: 1.0, 1: _WORTH_ALONE}
    best = max(counts, key=lambda count: rates[count] / handicap.get(count, _WORTH))
    said = ", ".join(f"{count}: {rate:.0f}/s" for count, rate in rates.items())
    rated = {**usual.rates, kind: round(rates[best], 2)}
    return replace(usual, lanes=best, rates=rated), f"rows of {kind} a second by lanes: {said}"


def _compile(model: Model, eager: Settings, kind: str, expected: int, reads: _Reads) -> tuple[Settings, str]:
    """The settings with or without compilation of the run's `expected` rows of one kind, and why."""
    if model.compile is False:
        return eager, "as asked"
    if kind == "gradients" and reads.targets > MOST_TARGETS:
        return eager, f"eager: more than {MOST_TARGETS} targets would take too long to compile"
    # Fused code keeps less in flight: on CPUs small chunks, which stay in the caches, were the best or close to it.
    size = min(_ROWS[kind], eager.rows[kind]) if eager.device == "cpu" else eager.rows[kind]
    compiled = replace(eager, compile=(*eager.compile, kind), rows={**eager.rows, kind: size})
    if model.compile is True:
        return compiled, "as asked"
    seconds = expected / eager.rates[kind]
    if seconds < _COMPILED:
        return eager, f"eager: about {seconds:.0f} s are too few to earn a compilation back"
    begun = time.perf_counter()
    try:
        with model.open(replace(compiled, compile=(kind,))) as fused, model.open(eager) as plain:
            _seconds([fused], kind, size, reads, 0.0)
            took = time.perf_counter() - begun
            pair = _seconds([fused, plain], kind, size, reads, _BUDGET)
    except CannotRun as error:
        return eager, f"eager: {error}"
    gain, rate = pair[1] / pair[0], round(size / pair[0], 2)  # the pair took turns; earlier rates met another hour
    said = f"compiled code was measured {gain:.2f}x as fast as eager code (compiling took {took:.0f} s)"
    if gain < _WORTH:
        return eager, f"eager: {said}"
    return replace(compiled, rates={**eager.rates, kind: rate}), said


def _why_device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "no CUDA device is usable" if not torch.cuda.is_available() else "as asked"


def _precision(model: Model, base: Settings, kinds: Mapping[str, int], reads: _Reads) -> tuple[str, str]:
    device = torch.device(base.device)
    if model.precision != "auto":
        check_precision(model.precision, device)
        return model.precision, "as asked"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        choice = "bf16" if major >= 8 else "fp16"
        return _if_it_runs(model, replace(base, precision=choice), f"fast on compute capability {major}.{minor}")
    if not fast_bf16():
        return "fp32", "this CPU has neither AMX-BF16 nor AVX512-BF16"
    if not kinds:
        kinds = {"scores": 1}
    with ExitStack() as stack:
        exact = stack.enter_context(model.open(replace(base, precision="fp32")))
        try:
            rough = stack.enter_context(model.open(replace(base, precision="bf16")))
        except CannotRun as error:
            return "fp32", f"bf16 does not work: {error}"
        # What the run will mostly do decides: a gradient costs more than a score does, but there are fewer of them.
        fp32 = bf16 = 0.0
        most = max(_COST[kind] * expected for kind, expected in kinds.items())
        for kind, expected in kinds.items():
            if _COST[kind] * expected < 0.2 * most:
                continue
            pair = _seconds([exact, rough], kind, _ROWS[kind], reads, _BUDGET / 2)
            fp32 += max(expected, 1) * pair[0] / _ROWS[kind]
            bf16 += max(expected, 1) * pair[1] / _ROWS[kind]
    if fp32 >= _WORTH_BF16 * bf16:
        return "bf16", f"bf16 was measured {fp32 / bf16:.2f}x as fast as fp32"
    return "fp32", f"bf16 was measured only {fp32 / bf16:.2f}x as fast as fp32"


def _if_it_runs(model: Model, settings: Settings, why: str) -> tuple[str, str]:
    try:
        with model.open(settings):
            return settings.precision, f"{settings.precision} is {why}"
    except CannotRun as error:
        return "fp32", f"{settings.precision} does not work: {error}"


def fast_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware (AMX-BF16 or AVX512-BF16)."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    checks = (getattr(torch.cpu, "_is_amx_tile_supported", None), getattr(torch.cpu, "_is_avx512_bf16_supported", None))
    if any(check is not None and check() for check in checks):
        return True
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = next((line.split() for line in file if line.startswith("flags")), [])
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def _best_rows(session: Session, kind: str, expected: int, reads: _Reads) -> tuple[int, dict[int, float]]:
    """The usual chunk, unless another size that the work can fill is more than 3% faster: the smallest of those.

    Sizes take turns, twice where the time allows, and the best of each counts: other work on the machine comes in
    spells, and only ever adds time.
    """
    sizes: tuple[int, ...] = _CUDA_ROWS if session.device.type == "cuda" else _CPU_ROWS
    sizes = tuple(max(1, size * _ROWS[kind] // _ROWS["scores"]) for size in sizes)
    sizes = tuple(size for size in sizes if size // 2 < max(expected, 1)) or sizes[:1]
    usual = min(_ROWS[kind], sizes[-1])
    seen = dict[int, float]()
    begun = time.perf_counter()
    for size in (usual, *(size for size in sizes if size != usual)) * 2:
        if time.perf_counter() - begun > _BUDGET:
            break
        try:
            (seconds,) = _seconds([session], kind, size, reads, _BUDGET / len(sizes) / 2)
        except torch.OutOfMemoryError:
            release(session.device)
            continue
        seen[size] = max(seen.get(size, 0.0), size / seconds)
    best = usual if usual in seen else min(seen, default=sizes[0])
    for size in sorted(seen):
        if seen[size] > _WORTH * seen[best]:
            best = size
    return best, dict(sorted(seen.items()))


def _seconds(sessions: Sequence[Session], kind: str, rows: int, reads: _Reads, budget: float) -> list[float]:
    """Seconds of one call per session: the fastest of two to seven, taken in turns after a warm-up.

    The fastest, because other work on the machine only ever adds time; in turns, so that it adds to all alike.
    """
    calls: list[Callable[[], object]] = []
    for session in sessions:
        calls.append(reads.call(session, kind, rows))
    begun = time.perf_counter()
    for call, session in zip(calls, sessions, strict=True):
        _timed(call, session, kind, reads.layers)
    times: list[list[float]] = []
    while len(times) < 2 or (len(times) < 7 and time.perf_counter() - begun < budget):
        times.append([_timed(call, session, kind, reads.layers) for call, session in zip(calls, sessions, strict=True)])
    return [min(column) for column in zip(*times, strict=True)]


def _timed(call: Callable[[], object], session: Session, kind: str, layers: Sequence[str]) -> float:
    """Seconds of one call; in lanes, of as many as keep them all busy for two calls each, divided by their number."""
    device = session.device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    with session.at_work(kind, layers) as work:
        calls = 2 * (work.window - 1) or 1
        begun = time.perf_counter()
        for wait in [work.submit(call) for _ in range(calls)]:
            wait()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - begun) / calls


def _noise(session: Session, rows: int, kind: str) -> Tensor:
    preprocess = session.model.preprocess
    inputs = waves((rows, preprocess.channels, *preprocess.size))
    if kind == "directions":
        inputs = pack_directions(inputs, inputs, torch.zeros(rows, *preprocess.size))
    return inputs.to(session.device, session.dtype)


def _targets(session: Session, rows: int, targets: int) -> Tensor:
    return (torch.arange(targets) % session.classes_out).expand(rows, targets).contiguous().to(session.device)
