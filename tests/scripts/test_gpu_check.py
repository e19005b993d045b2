"""scripts/gpu_check where it can be tried without a GPU: what it says there, and how it reads what pytest did."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "gpu_check"


@pytest.fixture(scope="module")
def gpu_check():
    loader = importlib.machinery.SourceFileLoader("gpu_check", str(SCRIPT))
    spec = importlib.util.spec_from_loader("gpu_check", loader)
    module = importlib.util.module_from_spec(spec)
    was, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # no cache folder in scripts/
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = was
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line(tmp_path):
    out = tmp_path / "x.json"
    done = subprocess.run([sys.executable, SCRIPT, "--out", out], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "gpu_check: " in done.stderr
    assert not out.exists()


def test_failures_skips_and_crashes_are_told_apart(gpu_check, tmp_path):
    source = tmp_path / "test_it.py"
    source.write_text(
        "import os, pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 1 == 2\n"
        "def test_left(): pytest.skip('no reason')\n"
    )
    found = gpu_check.pytest_run([str(source)], tmp_path, 60)
    assert found["passed"] == 1
    assert [failure["test"].rpartition("::")[2] for failure in found["failures"]] == ["test_bad"]
    assert "assert 1 == 2" in found["failures"][0]["reason"]
    assert [skipped["reason"] for skipped in found["skipped"]] == ["no reason"]

    source.write_text("import os\ndef test_crash(): os._exit(3)\n")
    (failure,) = gpu_check.pytest_run([str(source)], tmp_path, 60)["failures"]
    assert failure["test"] == str(source)

    source.write_text("import time\ndef test_slow(): time.sleep(60)\n")
    (failure,) = gpu_check.pytest_run([str(source)], tmp_path, 3)["failures"]
    assert failure["reason"] == "not done after 3 s"
