"""The life of decoder processes: started once, used again, and gone without a trace, however a program ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastxai.decoding import Load, decoders
from fastxai.decoding.decoders import Decoders
from fastxai.errors import CannotRun

from .conftest import PREPROCESS, gone, good, noise, pids, reason, wait_until_gone


def test_processes_are_used_again_and_no_more_than_there_are_threads(pool: Decoders) -> None:
    for _ in range(3):
        good(Load(decoders=pool))
    first = pids(pool)
    assert len(first) == 1
    with ThreadPoolExecutor(4) as threads:
        for _ in threads.map(lambda seed: good(Load(decoders=pool), seed), range(100)):
            pass
    assert first <= pids(pool)
    assert len(pids(pool)) <= 4


def test_surplus_processes_end_with_their_load(pool: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "KEPT", 1)
    load = Load(decoders=pool)
    with pool.one(), pool.one(), pool.one():
        pass
    before = pids(pool)
    assert len(before) == 3
    load.close()
    assert len(pids(pool)) == 1
    assert all(gone(process) for process in before - pids(pool))
    assert reason(load, noise(0)) == "decoding was broken off"
    good(Load(decoders=pool))


def test_a_process_that_died_while_idle_is_replaced(pool: Decoders) -> None:
    good(Load(decoders=pool))
    (old,) = pids(pool)
    os.kill(old, signal.SIGKILL)
    wait_until_gone(old)
    good(Load(decoders=pool))
    assert old not in pids(pool)


def test_signals_to_the_whole_group_are_left_to_the_run(quiet_pool: Decoders) -> None:
    good(Load(decoders=quiet_pool))
    before = pids(quiet_pool)
    for process in before:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(process, number)
    good(Load(decoders=quiet_pool))
    assert pids(quiet_pool) == before


def test_nothing_is_left_behind(trap: Callable[[str], bytes]) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    pool = Decoders()
    files, seen = open_files(), set()
    for seed in range(8):
        load = Load(decoders=pool)
        good(load, seed)
        seen |= pids(pool)
        if seed % 2:
            reason(load, trap("import os; os.abort()"))
    assert len(seen) == 4
    assert open_files() == files
    good(Load(decoders=pool))
    seen |= pids(pool)
    assert open_files() == files + 2  # the pipes of one process
    pool.end()
    assert open_files() == files
    for process in seen:  # waited for: not even a zombie
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_decoder_is_small(quiet_pool: Decoders) -> None:
    good(Load(decoders=quiet_pool))
    process = min(pids(quiet_pool))
    maps = Path(f"/proc/{process}/maps").read_text()
    assert "_imaging" in maps
    assert "torch" not in maps
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    assert int(fields["Threads"]) == 1
    assert int(fields["VmRSS"].split()[0]) < 100 * 1024  # kB; was 45 MB with Python 3.11, NumPy 2.3 and Pillow 13
    assert Path(f"/proc/{process}/cwd").resolve() == Path("/")
    assert Path(f"/proc/{process}/oom_score_adj").read_text().strip() == "1000"


@pytest.mark.parametrize(
    ("program", "wanted"),
    [
        ("raise ValueError('no\\nway')", "way"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("import os; os._exit(7)", "ended with status 7"),
        ("print('hello ' * 10)", "does not start"),
    ],
)
def test_a_process_that_does_not_start_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, pool: Decoders, program: str, wanted: str
) -> None:
    monkeypatch.setattr(decoders, "PROGRAM", program)
    with pytest.raises(CannotRun, match="does not start to decode pictures: ") as caught:
        Load(decoders=pool).decode(noise(0), PREPROCESS)
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)
    assert pids(pool) == set()


def test_an_interpreter_that_is_not_there_ends_the_run(monkeypatch: pytest.MonkeyPatch, pool: Decoders) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(CannotRun, match="'/nowhere/python' cannot be started to decode pictures: "):
        Load(decoders=pool).decode(noise(0), PREPROCESS)
    monkeypatch.setattr(sys, "executable", None)
    with pytest.raises(CannotRun, match="sys.executable must name"):
        Load(decoders=pool).decode(noise(0), PREPROCESS)


# -- what needs a program of its own

_START = """
import io, os, signal, sys, threading, time
import numpy as np
from PIL import Image
from fastxai.decoding import DecodeLimits, Load
from fastxai.decoding.decoders import SHARED
from fastxai.types import Preprocess
file = io.BytesIO()
Image.new("RGB", (9, 9), (1, 2, 3)).save(file, "PNG")
data, preprocess = file.getvalue(), Preprocess((4, 4), None)
def good():
    return Load().decode(data, preprocess).placed.pixels[:, 0, 0].tolist() == [1, 2, 3]
def pids():
    return [decoder._process.pid for decoder in SHARED._all]
assert good()
"""


def program(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs in a folder where a file named like a package lies, which no decoder may take for it."""
    (cwd / "numpy.py").write_text("raise SystemExit('wrong numpy')")
    command = [sys.executable, "-P", "-W", "error", "-c", _START + code]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_a_program_that_ends_takes_its_decoders_along(tmp_path: Path) -> None:
    done = program("print(*pids())", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert gone(int(done.stdout))


@pytest.mark.timeout(60)
def test_no_decoder_survives_a_program_that_was_killed(tmp_path: Path) -> None:
    done = program("print(*pids(), flush=True); os.kill(os.getpid(), signal.SIGKILL)", tmp_path)
    assert done.returncode == -signal.SIGKILL
    wait_until_gone(int(done.stdout))


def test_the_folder_a_program_runs_in_may_change_and_go(tmp_path: Path) -> None:
    code = """
SHARED.end()
os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
root = os.path.dirname(os.path.dirname(sys.modules["fastxai"].__file__))
sys.path[:] = [""] + [path for path in sys.path if path != root]
assert good()
"""
    done = program(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.timeout(60)
def test_a_fork_has_decoders_of_its_own(tmp_path: Path) -> None:
    code = """
mine, files = pids(), len(os.listdir("/proc/self/fd"))
SHARED._lock.acquire()  # as by another thread, at the moment of the fork
child = os.fork()
if child == 0:
    signal.alarm(60)  # where it waits for the lock forever
    assert len(os.listdir("/proc/self/fd")) == files - 2
    assert pids() == []
    assert good() and pids() != mine
    print(*pids(), flush=True)
    sys.exit(0)
SHARED._lock.release()
assert os.waitpid(child, 0)[1] == 0
assert good() and pids() == mine
print(*mine)
"""
    done = program(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for process in done.stdout.split():
        wait_until_gone(int(process))


@pytest.mark.timeout(60)
def test_a_fork_that_lives_on_keeps_no_decoder_alive(tmp_path: Path) -> None:
    code = """
mine, child = pids(), os.fork()
if child == 0:
    signal.alarm(60)
    for handle in (0, 1, 2):
        os.close(handle)
    time.sleep(1000)
    os._exit(0)
print(*mine, child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    decoder, child = (int(process) for process in program(code, tmp_path).stdout.split())
    try:
        wait_until_gone(decoder)
        assert not gone(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_the_callers_script_is_not_run_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("print('once')\n" + _START + "assert good()\n")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "once\n", "")


def test_decoding_loads_no_torch() -> None:
    code = "import sys, fastxai.decoding.child; print(sorted({'torch', 'numba', 'h5py', 'skimage'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "[]\n"
