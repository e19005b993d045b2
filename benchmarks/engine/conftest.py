"""What the end-to-end benchmarks share: one run of `fastxai.bench`, printed, and left in pytest-benchmark's record.

Run, not asserted: `python -m pytest benchmarks/engine/bench_*.py` (each file names its work; minutes), with
`--quick` for a look at whether everything works.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from fastxai.bench import Options, as_text, bench, make_cases
from fastxai.models import Model, load_model


class Measured(Protocol):
    def __call__(
        self, model: Model, explainer: str, targets: Sequence[str] = ("top1",), *, images: int | None = None
    ) -> dict[str, Any]: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="few pictures and samples, one round")


@pytest.fixture(scope="session")
def load(device: torch.device):
    """A model by its name, loaded once; random weights do where a download would be needed."""
    found: dict[tuple[str, str], Model] = {}

    def model(spec: str, precision: str = "auto", compile: bool | str = "auto") -> Model:
        key = (spec, f"{precision} {compile}")
        if key not in found:
            weights = None if spec == "embedded" else "random"
            found[key] = load_model(spec, weights=weights, device=device.type, precision=precision, compile=compile)
        return found[key]

    return model


@pytest.fixture
def measured(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> Measured:
    """Runs one benchmark, prints its table, and returns its record."""
    quick = request.config.getoption("--quick")

    def run(
        model: Model, explainer: str, targets: Sequence[str] = ("top1",), *, images: int | None = None
    ) -> dict[str, Any]:
        cases, left_out = make_cases(explainer, targets, 4 if quick else None)
        small = {"images": 2, "batch": 2, "repeat": 1, "peer_seconds": 0.0, "limit_seconds": 0.1, "compared": 1}
        options = Options(**small) if quick else Options(images=images, compared=4)
        found = benchmark.pedantic(
            bench, (model, cases, options), {"left_out": left_out}, rounds=1, iterations=1, warmup_rounds=0
        )
        benchmark.extra_info.update(found)
        with capsys.disabled():
            print(f"\n{as_text(found)}")
        return found

    return run
