"""The compiled loops: imported late, cached where that is possible, run where it is not, from several threads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import fastxai
from fastxai.ops import random_words

CALL = """
import sys, torch
import fastxai.ops as ops
assert not {"numba", "cupy"} & set(sys.modules), "imported too early"
zero = torch.zeros(1, dtype=torch.int64)
assert hex(int(ops.random_words(zero.expand(1, 2), zero, zero, 4, 0)[0, 0])) == "0x6627e8d5"
from fastxai.ops import philox
print(sum(philox._fill._compiled.stats.cache_hits.values()) if philox._fill._compiled.stats.cache_path else "uncached")
"""


def run(package_parent: Path, **environment: str) -> str:
    # One thread takes a form of the loops that is compiled anew in every process.
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "OMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", CALL],
        env={**kept, "PYTHONPATH": str(package_parent), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        cwd=package_parent,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_ops_loads_neither_numba_nor_cupy_and_loops_are_cached(tmp_path):
    parent = Path(fastxai.__file__).parents[1]
    cache = str(tmp_path / "cache")
    assert run(parent, NUMBA_CACHE_DIR=cache) == "0"
    assert run(parent, NUMBA_CACHE_DIR=cache) == "1"


def test_runs_where_nothing_can_be_written(tmp_path):
    """A read-only installation and no home: the loops are compiled without a cache."""
    shutil.copytree(
        Path(fastxai.__file__).parent, tmp_path / "fastxai", ignore=shutil.ignore_patterns("__pycache__", "cli")
    )
    # Numba writes to __pycache__ beside the source, or into the user's cache folder: a file in place of a folder
    # stops even root.
    (tmp_path / "fastxai" / "ops" / "__pycache__").write_text("")
    (tmp_path / "home").write_text("")
    home = str(tmp_path / "home" / "nobody")
    assert run(tmp_path, HOME=home, XDG_CACHE_HOME=home) == "uncached"


def test_several_threads_at_once():
    zero = torch.zeros(200, dtype=torch.int64)
    wanted = random_words(zero[:1].expand(1, 2), zero, torch.arange(200), 40, 1, implementation="torch")

    def call(_: int) -> torch.Tensor:
        return random_words(zero[:1].expand(1, 2), zero, torch.arange(200), 40, 1)

    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(got, wanted) for got in pool.map(call, range(40)))


def test_without_numba_says_so(monkeypatch):
    from fastxai.errors import CannotRun
    from fastxai.ops._numba import ParallelLoop

    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(CannotRun, match="need numba"):
        ParallelLoop(lambda: None)()


def test_one_thread_needs_no_pool_and_gives_the_same_bits():
    call = """
import numba, torch
import fastxai.ops as ops
picture = (torch.arange(3 * 40 * 50).reshape(1, 3, 40, 50) * 37 % 251).to(torch.uint8)
torch.set_num_threads(1)
alone = ops.quickshift(picture, kernel_size=3, max_dist=10, ratio=0.5)
try:
    print(numba.threading_layer())
except ValueError:
    print("no pool")
torch.set_num_threads(2)
print(torch.equal(alone, ops.quickshift(picture, kernel_size=3, max_dist=10, ratio=0.5)), numba.threading_layer() != "")
"""
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["no pool", "True True"], done.stderr


def test_a_pool_that_begins_leaves_torch_its_threads():
    call = """
import torch
import fastxai.ops as ops
torch.set_num_threads(3)
ops.quickshift(torch.zeros(1, 3, 20, 20, dtype=torch.uint8), kernel_size=2, max_dist=5, ratio=0.5)
import numba
print(numba.threading_layer() != "", torch.get_num_threads())
"""
    fewer = os.environ | {"NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, env=fewer)
    assert done.stdout.split("\n")[0] == "True 3", done.stderr
