"""Memory that is freed stays with the process, or goes back to the system; long runs leave holes in the heap alone."""

from __future__ import annotations

import ctypes
import resource
import subprocess
import sys

import numpy as np
import pytest

from fastxai.heap import _glibc, apart

SCRIPT = """
import resource, torch
from fastxai.heap import freed_memory_kept
from fastxai.memory import release

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


# Every other block of 1 MiB is freed and leaves a hole.
HOLES = """
import ctypes, threading, torch
from fastxai.heap import SteadyHeap, freed_memory_kept

class Info(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    _fields_ = [(name, ctypes.c_size_t) for name in names]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info

def in_use():
    return mallinfo().uordblks / 2**20

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4 / 2**10

def work():
    with freed_memory_kept():
        blocks = [torch.ones(2**18) for _ in range(120)]
        holes = [block.data_ptr() for block in blocks[:-1:2]]
        del blocks[::2]

        def found():
            new = [torch.empty(2**18 - 2**12) for _ in range(40)]
            return sum(any(hole <= block.data_ptr() < hole + 2**20 for hole in holes) for block in new)

        before, used = resident(), in_use()
        with SteadyHeap():
            filled, taken = before - resident(), in_use() - used
            within = found()
        print(within, filled, taken, in_use() - used)

work()
other = threading.Thread(target=work)
other.start()
other.join()
"""

# Blocks that find no free place, before and after the heap has settled.
SETTLED = """
import ctypes, torch
from fastxai.heap import SteadyHeap, _glibc, freed_memory_kept

glibc = _glibc()
malloc = glibc.malloc

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4 / 2**10

def kept():
    before = resident()
    large = torch.ones(20 * 2**18)
    del large
    return resident() - before

kept()  # torch starts its threads
with freed_memory_kept():
    with SteadyHeap() as heap:
        before, address, after = [malloc(size * 2**20) for size in (1, 10, 1)]  # nothing else between these
        ctypes.memset(address, 1, 10 * 2**20)
        glibc.free(address)
        heap.settle()
        settled, again = kept(), malloc(10 * 2**20 - 2**12)
    print(settled, int(address <= again < address + 2**14), kept())
"""

# Blocks at the end of the main heap, with nothing behind them. Taken from malloc itself: torch asks it for places that
# begin at multiples of 64, for which glibc takes no place of the very size.
END = """
import ctypes, resource
from fastxai.heap import SteadyHeap, _glibc, freed_memory_kept

def faults(size=20 * 2**20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    several = [_glibc().malloc(size) for _ in range(5)]
    for block in several:
        ctypes.memset(block, 1, size)
    for block in several:
        _glibc().free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with freed_memory_kept(), SteadyHeap() as heap:
    first = faults()
    heap.settle()
    print(faults() / first)
"""

# Forward and backward passes in the main heap, and in a lane's, which is in pieces of 64 MiB: both keep their places,
# also those of blocks of 36.75 MiB, for which no heap grows.
PASSES = """
import resource, threading, torch
from fastxai.heap import SteadyHeap, freed_memory_kept

SIZES = [2**15 * size for size in (98, 294, 294, 98, *(24, 24, 98, 98, 98, 24, 98) * 3)]

def call():
    kept = [torch.ones(size) for size in SIZES]
    while kept:
        torch.ones(kept.pop().numel())

def faults(calls=6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(calls):
        call()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / calls

def work():
    with freed_memory_kept(), SteadyHeap() as heap:
        for _ in range(2):
            call()
            heap.settle()
        call()
        print(faults() / (sum(SIZES) * 4 / resource.getpagesize()))

work()
lane = threading.Thread(target=work)
lane.start()
lane.join()
"""

GLIBC = pytest.mark.skipif(
    not sys.platform.startswith("linux") or _glibc() is None, reason="only glibc gives memory back so"
)


@GLIBC
def test_freed_memory_is_at_hand_while_it_is_kept_and_given_back_at_the_end():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    inside, released, given_back = map(float, done.stdout.split())
    pages = 6 * 5_000_000 * 4 / resource.getpagesize()
    assert inside < pages / 10, "the same pages are used again"
    assert min(released, given_back) > 80, "MiB of the 114 that were free"


@GLIBC
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc before 2.33 does not say what is in use")
def test_nothing_is_put_into_filled_holes_and_they_take_no_memory():
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    threads = done.stdout.splitlines()
    assert len(threads) == 2
    for line in threads:
        within, given_back, taken, left = map(float, line.split())
        assert within == 0
        assert min(given_back, taken) > 50, "MiB of the 60 that were free"
        assert left < 1, "MiB are still in use at the end"


@GLIBC
def test_a_settled_heap_grows_no_more_and_what_is_in_it_is_used_again():
    done = subprocess.run([sys.executable, "-c", SETTLED], capture_output=True, text=True, check=True)
    settled, same, usual = map(float, done.stdout.split())
    assert settled < 1 and same, "MiB that stay of 20, and the place of 10"
    assert usual > 15, "afterwards it is kept again"


@GLIBC
def test_a_settled_heap_keeps_what_passes_need():
    done = subprocess.run([sys.executable, "-c", PASSES], capture_output=True, text=True, check=True)
    main, lane = map(float, done.stdout.split())
    assert max(main, lane) < 0.3, "of the pages: most of the same ones are used again"


@GLIBC
def test_a_settled_heap_keeps_its_end():
    done = subprocess.run([sys.executable, "-c", END], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.1, "of the pages: the same ones are used again"


@GLIBC
def test_memory_apart_comes_and_goes_with_its_array():
    def mapped(address: int) -> bool:
        with open("/proc/self/maps", encoding="ascii", errors="replace") as lines:
            ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in lines]
        return any(first <= address < last for first, last in ranges)

    array = apart((3, 1000, 1000), np.float32)
    assert array.shape == (3, 1000, 1000) and array.dtype == np.float32 and not array.any()
    array[1, 2, 3] = 4
    middle = array[1:2].ctypes.data
    view = array[1]
    del array
    assert view[2, 3] == 4 and mapped(middle)
    del view
    assert not mapped(middle)
    assert apart((0, 3), np.uint8).shape == (0, 3)
