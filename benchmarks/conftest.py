"""What benchmarks share: the device they run on, and how a figure is measured, printed and put on record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.timing import Call, Figure, medians

FIGURES = pytest.StashKey[list[dict[str, Any]]]()


class Measure(Protocol):
    def __call__(
        self,
        name: str,
        work: str,
        op: Call,
        *,
        peer: tuple[str, Call],
        limit: tuple[str, Call],
        peer_calls: int = 1,
        rounds: int | None = None,
    ) -> Figure: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=("cpu", "cuda"), default="cpu", help="where benchmarks run (default: cpu)")
    parser.addoption(
        "--record", type=Path, metavar="FILE", help="write the figures there, for scripts/performance_table"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    file, figures = session.config.getoption("--record"), session.config.stash[FIGURES]
    if file is not None and figures:
        from fastxai.bench.record import head  # the ops are measured also where captum is not installed

        device = torch.device(session.config.getoption("--device"))
        record = {**head(device), "program": "fastxai benchmarks", "figures": figures}
        file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    chosen = torch.device(request.config.getoption("--device"))
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError("--device cuda needs an NVIDIA GPU that torch can use")
    return chosen


@pytest.fixture
def measure(
    request: pytest.FixtureRequest,
    benchmark: BenchmarkFixture,
    capsys: pytest.CaptureFixture[str],
    device: torch.device,
) -> Measure:
    """Times op, peer and limit in turns; prints one line and leaves the figure in the record of pytest-benchmark.

    peer_calls: how many of the peer's calls do the work of one of the op's, for a peer too slow to do it all each time.
    """

    def run(
        name: str,
        work: str,
        op: Call,
        *,
        peer: tuple[str, Call],
        limit: tuple[str, Call],
        peer_calls: int = 1,
        rounds: int | None = None,
    ) -> Figure:
        rounds = rounds or (15 if device.type == "cpu" else 30)
        found = medians({"op": op, "peer": peer[1], "limit": limit[1]}, device, rounds)
        theirs = found["peer"] * peer_calls
        figure = Figure(name, device.type, work, found["op"], peer[0], theirs, limit[0], found["limit"])
        record = figure.record()
        benchmark.extra_info.update(record)
        request.config.stash[FIGURES].append(record)

        def waited() -> None:
            op()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        benchmark.pedantic(waited, rounds=rounds, warmup_rounds=1)
        with capsys.disabled():
            print(f"\n{figure}")
        return figure

    return run
