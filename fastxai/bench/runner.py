"""`bench`: everything measured in turns, into a record."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastxai.bench import record
from fastxai.bench.cases import Case
from fastxai.bench.measure import Bench, measure_case
from fastxai.bench.options import Options
from fastxai.bench.peers import PEERS
from fastxai.bench.peers.subject import plain_copy
from fastxai.bench.pictures import BUILT_IN, put_pictures
from fastxai.bench.startup import import_seconds
from fastxai.models import Model, load_model
from fastxai.types import Settings

Say = Callable[[str], None]
INSTALL = "pip install 'fastxai[bench]'"


def bench(
    model: Model | str,
    cases: Sequence[Case],
    options: Options | None = None,
    *,
    images: Any = None,
    left_out: Sequence[dict[str, str]] = (),
    weights: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    compile: bool | str = "auto",
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Measure every case against its limit and the installed peers; the record, as `fastxai.bench.record` describes.

    model: a `Model`, or what `load_model` takes, with weights, device, precision and compile (which a model in hand
    brings along). cases, left_out: from `make_cases`. images: picture files as `fastxai.run` takes them; None: crops of
    scikit-image's photographs. say: told what happens, a line a time.

    Raises `ArgumentError` for arguments that cannot be, `CannotRun` where fastxai itself cannot run. A peer that is
    absent or fails is named in the record and ends nothing.
    """
    options = options or Options()
    spec = model if isinstance(model, str) else model.name
    began = time.perf_counter()
    if isinstance(model, str):
        model = load_model(model, weights=weights, device=device, precision=precision, compile=compile)
        load = time.perf_counter() - began
    else:
        load = 0.0
    # What cannot be is refused before anything is measured.
    with model.open(Settings(device=str(model.device))) as session:
        cases = [
            replace(case.within(session.classes_out), explainer=case.explainer.settle(model.preprocess, ()))
            for case in cases
        ]
        for case in cases:
            case.explainer.layers(session)
        classes = session.classes_out
    with tempfile.TemporaryDirectory(prefix="fastxai-bench-") as folder:
        put_pictures(Path(folder) / "first", 1, images)
        setting = Bench(
            model=model,
            options=options,
            module=plain_copy(model.module, model.device),
            pictures=lambda count: put_pictures(Path(folder), count, images),
            classes=classes,
            imports=import_seconds(),
            load=load,
            say=say,
        )
        found = [measure_case(setting, case) for case in cases]
    wanted = {case.explainer.method for case in cases}
    absent = [p for p in map(PEERS.__getitem__, options.peers) if p.method in wanted and not p.installed]
    return {
        **record.head(model.device),
        "model": {"spec": spec, **model.describe()},
        "options": options.to_dict(),
        "pictures": BUILT_IN if images is None else "given files",
        "absent": [{"name": peer.name, "install": INSTALL} for peer in absent],
        "left_out": list(left_out),
        "cases": found,
    }
