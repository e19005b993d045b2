"""scripts/performance_table: what it writes, from what."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SCRIPT = PROJECT / "scripts" / "performance_table"
CALLS = "<!-- calls of other packages: begin -->\nold\n<!-- calls of other packages: end -->\n"
FEWER = "<!-- model calls: begin -->\nold\n<!-- model calls: end -->\n"
README = f"before\n<!-- performance: begin -->\nold\n<!-- performance: end -->\n{CALLS}{FEWER}after\n"


def table(readme: Path, results: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, "--readme", str(readme), "--results", str(results), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    path = tmp_path / "README.md"
    path.write_text(README)
    return path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "gpu.json").write_text(json.dumps({"device": "a GPU", "figures": []}))  # of scripts/gpu_check
    return folder


def agreement(rank: float | None, top: float | None) -> dict[str, Any]:
    return {"rank_correlation": rank, "lowest": rank, "top10": top, "pairs": 2}


def record() -> dict[str, Any]:
    peer = {
        "name": "shap",
        "version": "0.50",
        "status": "measured",
        "ratio": 12.34,
        "speed": {"images_per_second": 0.31},
    }
    case = {
        "explainer": {"name": "gradient-shap"},
        "targets": "all",
        "work": {"classes": 10, "samples": 20, "images": 16, "distinct": 16, "batch": 8, "size": [224, 224]},
        "all_classes": {"classes": 1000, "sample": 10},
        "settings": {"precision": "bf16", "compile": True},
        "fastxai": {"images_per_second": 3.456},
        "share": 0.876,
        "agreement": {"fp32": None, "seed": agreement(0.9, 0.8)},
        "peers": [
            {**peer, "agreement": agreement(0.9123, None)},
            {"name": "captum", "status": "absent", "why": "not installed"},
        ],
    }
    alone = {**case, "explainer": {"name": "gradcam"}, "all_classes": None, "peers": []}
    alone["work"] = {**case["work"], "classes": 1, "samples": None}
    machine = {"cpu": "a CPU, 2 cores", "gpu": None}
    return {
        "schema": 1,
        "program": "fastxai bench",
        "date": "2026-01-02T03:04:05+00:00",
        "machine": machine,
        "model": {"spec": "embedded"},
        "cases": [case, alone],
    }


def test_a_multiple_stands_beside_what_arithmetic_allows(readme: Path, results: Path) -> None:
    found = record()
    case = found["cases"][0]
    case["peers"][0]["speed"]["seconds"], case["arithmetic"] = 6.0, {"seconds": 0.25}
    (results / "cpu.json").write_text(json.dumps(found))
    assert table(readme, results).returncode == 0
    assert "| 12.3x of 24.0x |" in readme.read_text()


def test_without_results_it_says_so(readme: Path, results: Path) -> None:
    assert table(readme, results).returncode == 0
    text = readme.read_text()
    assert "no result files" in text and "old" not in text
    assert text.count("no such record") == 2
    assert text.startswith("before\n<!-- performance: begin -->\n") and text.endswith("end -->\nafter\n")
    assert table(readme, results, "--check").returncode == 0


def test_every_row_states_work_model_and_hardware(readme: Path, results: Path) -> None:
    (results / "cpu.json").write_text(json.dumps(record()))
    assert table(readme, results, "--check").returncode == 1
    assert readme.read_text() == README  # checking changes nothing
    assert table(readme, results).returncode == 0
    rows = [line for line in readme.read_text().splitlines() if line.startswith("| `")]
    assert rows == [
        "| `gradient-shap` | 10 classes (a sample of 1000) x 20 samples x 16 images of 224x224 | embedded "
        "| a CPU, 2 cores | 3.46 (bf16, compiled) | 88% | shap 0.50: 0.31 images/s | 12.3x | 0.912, - (0.900, 80%) |",
        "| `gradcam` | 1 class x 16 images of 224x224 | embedded | a CPU, 2 cores "
        "| 3.46 (bf16, compiled) | 88% | - | - | - |",
    ]
    assert table(readme, results, "--check").returncode == 0


def test_calls_of_other_packages_stand_side_by_side_by_form_of_the_model(readme: Path, results: Path) -> None:
    figure = {
        "name": "captum Lime, fp32",
        "work": "25 samples",
        "peer": "captum",
        "peer_seconds": 0.1234,
        "ratio": 1.26,
    }
    figures = [
        figure,
        {**figure, "work": "8 samples"},
        {**figure, "name": "captum Lime, auto", "ratio": 2.0},
        {**figure, "name": "lime, a function"},  # no form of a model: not in the table
    ]
    head = {key: value for key, value in record().items() if key not in ("model", "cases")}
    told = {**head, "program": "fastxai benchmarks", "versions": {"captum": "0.9"}, "figures": figures}
    (results / "calls.json").write_text(json.dumps(told))
    assert table(readme, results).returncode == 0
    rows = [line for line in readme.read_text().splitlines() if line.startswith("| `")]
    assert rows == [
        "| `captum Lime` | 25 samples | a CPU, 2 cores | captum 0.9: 123 ms | 1.3x | 2.0x |",
        "| `captum Lime` | 8 samples | a CPU, 2 cores | captum 0.9: 123 ms | 1.3x | - |",
    ]
    assert "Measured 2026-01-02." in readme.read_text()


def fewer_calls(lime: float, shap: float, enough: float) -> dict[str, Any]:
    errors = {"128": 0.5, "768": 0.1}
    peers = {"default": {"calls": 200, "peer calls": 2100}, "without": {"calls": shap, "peer calls": 2110}}
    auto = {"ratio": 300 / enough, "enough": enough, "covered": 0.9}
    found = {"calls": {"smooth, paired": lime}, "smooth, paired": errors}
    return {"lime": found, "kernel-shap": {**peers, "smooth": errors}, "auto": auto}


def test_calls_for_the_same_answer(readme: Path, results: Path) -> None:
    pictures = [fewer_calls(400, 210, 200), fewer_calls(300, 200.4, 300), fewer_calls(500, math.inf, math.inf)]
    told = {"schema": 1, "program": "scripts/fewer_calls", "date": "2026-01-02T03:04:05+00:00"}
    told |= {"model": "embedded", "seeds": 20, "auto_seeds": 50, "pictures": pictures}
    (results / "fewer.json").write_text(json.dumps(told))
    assert table(readme, results).returncode == 0
    text = readme.read_text()
    assert [line for line in text.splitlines() if line.startswith("| `")] == [
        "| `lime` | 1000 | `lime:surrogate=smooth,sampling=paired` | 400 | 300 to 500 |",
        "| `shap.KernelExplainer`, its defaults | 2100 to 2100 | `kernel-shap` | 200 | 200 to 200 |",
        "| `shap.KernelExplainer`, `l1_reg=0` | 2100 to 2100 | `kernel-shap` | 210 | 200 to more than 768 |",
    ]
    said = " ".join(text.split())
    assert "stops at 1.25 times the fewest measured calls that meet its tolerance (1 of 3 pictures: none)" in said
    assert "hold 90%" in said and "Measured 2026-01-02." in said
    (results / "again.json").write_text(json.dumps(told))
    assert "more than one record" in table(readme, results).stderr


def test_what_cannot_be_read_is_refused(readme: Path, results: Path) -> None:
    (results / "cpu.json").write_text(json.dumps({**record(), "schema": 2}))
    done = table(readme, results)
    assert done.returncode == 1 and "schema 2" in done.stderr
    (results / "cpu.json").unlink()
    readme.write_text("no markers\n")
    done = table(readme, results)
    assert done.returncode == 1 and "markers" not in done.stdout
    assert readme.read_text() == "no markers\n"


def test_the_readme_is_up_to_date() -> None:
    done = table(PROJECT / "README.md", PROJECT / "benchmarks" / "results", "--check")
    assert done.returncode == 0, done.stderr
