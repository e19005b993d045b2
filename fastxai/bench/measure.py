"""One case, from calibration to agreement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fastxai.bench import record
from fastxai.bench.agreement import compare
from fastxai.bench.arithmetic import flop_a_row, product_turn
from fastxai.bench.cases import Case
from fastxai.bench.limit import Passes, limit_turn, search
from fastxai.bench.memory import Peak, watched
from fastxai.bench.options import Options
from fastxai.bench.ours import Work, memory_turn, pictures_at_a_time, pipeline_turn
from fastxai.bench.own_results import own_results
from fastxai.bench.peer_turns import peers_of, prepare_peers, switches
from fastxai.bench.peers import Peer, Subject
from fastxai.bench.peers.subject import best_classes
from fastxai.bench.pictures import decoded
from fastxai.bench.startup import Startup, calibrated, open_and_compile
from fastxai.bench.turns import Times, Turn, describe_error, take_turns
from fastxai.models import Model
from fastxai.store.schema import settings_to_dict
from fastxai.types import Settings


@dataclass(frozen=True)
class Bench:
    """What all cases share.

    module: the plain copy for peers; pictures: writes so many files and returns them, with how many are distinct, the
    first ones always the same; classes: of the model; imports, load: seconds.
    """

    model: Model
    options: Options
    module: nn.Module
    pictures: Callable[[int], tuple[list[Path], int]]
    classes: int
    imports: float
    load: float
    say: Callable[[str], None]


def measure_case(bench: Bench, case: Case) -> dict[str, Any]:
    """Calibrate, search the limit, compare results, then take turns; one entry of the record's `cases`."""
    model, options = bench.model, bench.options
    name, images = f"{case.explainer.name}, {case.targets}", case.images(options.images)
    as_found = switches()
    with model.open(Settings(device=str(model.device))) as session:
        layers = case.explainer.layers(session)
    bench.say(f"{name}: calibrating")
    settings, calibration = calibrated(model, case, options.run_images, layers)
    startup = Startup(bench.imports, bench.load, calibration, *open_and_compile(model, settings, case.classes))
    batch = options.batch or pictures_at_a_time(
        model, case, settings, options.run_images, layers=len(layers), classes=bench.classes
    )
    paths, distinct = bench.pictures(images + batch)
    work = Work(model, case, settings, paths, batch, options.seed)
    pixels = decoded(paths, model.preprocess)
    bench.say(f"{name}: explaining pictures to compare")
    compared = min(options.compared, images)
    files = [str(path) for path in paths[:compared]]
    ours, labels, own = own_results(model, case, settings, files, pixels[:compared], options.seed)
    bench.say(f"{name}: searching the limit")
    passes = Passes(case.need, case.classes, layers)
    limit = search(model, settings, passes, min(1.0, options.limit_seconds))
    try:
        flop = case.need.rows * flop_a_row(model, settings, passes)
    except RuntimeError as error:
        flop = 0
        bench.say(f"{name}: the model's operations cannot be counted: {describe_error(error)}")

    subject = Subject(
        model=model,
        module=bench.module,
        device=model.device,
        pixels=pixels[:images],
        targets=best_classes(model, bench.module, pixels[:images], case.classes),
        explainer=case.explainer,
        layer=layers[0] if layers else "",
        seed=options.seed,
    )
    with model.open(limit.best.settings) as session:
        bare = limit_turn(session, passes, limit.best.size, options.limit_seconds)
        turns: list[tuple[str, Turn]] = [("limit", bare), ("fastxai", pipeline_turn(work)), ("limit", bare)]
        if flop:
            turns.append(("arithmetic", product_turn(session, flop, min(1.0, options.limit_seconds))))
        if case.need.kind == "predict":
            turns.append(("fastxai in memory", memory_turn(work, pixels)))
        peers, broken = prepare_peers(options, case, subject, as_found, bench.say)
        turns += [(peer.name, turn) for peer, turn in peers]
        peaks = {turn: Peak() for turn, _ in turns}
        times, failed = take_turns(
            [(turn, watched(call, peaks[turn], model.device)) for turn, call in turns],
            options.repeat,
            lambda number, turn, seconds: bench.say(
                f"{name}: round {number + 1} of {options.repeat}, {turn}: {seconds:.4g} s an image"
            ),
        )
    failed = {**broken, **failed}
    speeds = {turn: record.speed(measured, peaks[turn]) for turn, measured in times.items()}
    entries: list[dict[str, Any]] = []
    ready = {peer.name: turn for peer, turn in peers}
    for peer in peers_of(case, options):
        entry: dict[str, Any] = {"name": peer.name, "call": peer.call, "status": "absent", "why": "not installed"}
        if peer.name in failed:
            entry |= {"version": peer.version, "status": "failed", "why": failed[peer.name]}
        elif peer.name in ready:
            theirs = compare(ours, ready[peer.name].answers, labels, case.explainer.method)
            entry |= {"version": peer.version, "status": "measured", "why": "", "speed": speeds[peer.name]}
            entry |= _against(times, peer, startup) | {"pictures": ready[peer.name].done, "agreement": theirs.to_dict()}
        entries.append(entry)
    return {
        "method": case.explainer.method,
        "explainer": case.explainer.to_dict(),
        "targets": "all" if case.sampled else case.targets,
        "work": {
            "classes": case.classes,
            "samples": case.samples,
            "images": images,
            "distinct": min(distinct, images),
            "batch": batch,
            "size": list(model.preprocess.size),
        },
        "settings": settings_to_dict(settings),
        "startup": startup.to_dict(),
        "fastxai": speeds["fastxai"],
        "memory": speeds.get("fastxai in memory"),
        "limit": {
            **speeds["limit"],
            "rows": case.need.rows,
            "kind": case.need.kind,
            "form": str(limit.best),
            "searched": dict(limit.rates),
            "failed": dict(limit.failed),
        },
        "arithmetic": {**speeds["arithmetic"], **record.operations(flop, times)} if flop else None,
        "share": record.share(times["limit"], times["fastxai"]),
        "agreement": own,
        "all_classes": _all_classes(bench, case, times) if case.sampled else None,
        "peers": entries,
    }


def _against(times: dict[str, Times], peer: Peer, startup: Startup) -> dict[str, Any]:
    theirs, ours, memory = times[peer.name], times["fastxai"], times.get("fastxai in memory")
    return {
        "ratio": record.ratio(theirs, ours),
        "memory_ratio": None if memory is None else record.ratio(theirs, memory),
        "pays_after": record.pays_after(startup.total, theirs, ours),
    }


def _all_classes(bench: Bench, case: Case, times: dict[str, Times]) -> dict[str, Any]:
    """Ours is an upper bound: the forward passes that all classes share are multiplied too."""
    factor = bench.classes / case.classes
    linear = [peer.name for peer in peers_of(case, bench.options) if peer.linear and peer.name in times]
    return {
        "classes": bench.classes,
        "sample": case.classes,
        "fastxai_seconds_at_most": factor * times["fastxai"].seconds,
        "peer_seconds": {name: factor * times[name].seconds for name in linear},
    }
