"""Memory that is freed stays with the process, or goes back to the system."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from fastxai.memory import _glibc

SCRIPT = """
import resource, torch
from fastxai.memory import freed_memory_kept, release

def faults(calls=20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(calls):
        several = [torch.ones(5_000_000) for _ in range(6)]
        del several
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / calls

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20

torch.ones(5_000_000)
with freed_memory_kept():
    with freed_memory_kept():
        faults(2)
    inside = faults()  # still kept: the outer one holds
    kept = resident()
    release(torch.device("cpu"))  # as after running out of memory
    released = resident()
    faults(2)
    again = resident()
print(inside, kept - released, again - resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or _glibc() is None, reason="only glibc gives memory back so")
def test_freed_memory_is_at_hand_while_it_is_kept_and_given_back_at_the_end():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    inside, released, given_back = map(float, done.stdout.split())
    pages = 6 * 5_000_000 * 4 / resource.getpagesize()
    assert inside < pages / 10, "the same pages are used again"
    assert min(released, given_back) > 80, "MiB of the 114 that were free"
