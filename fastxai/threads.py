"""How many threads work beside the model, and how many cores they may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

_FEWEST, _MOST = 2, 8


def set_threads(count: int) -> None:
    """`torch.set_num_threads` for the calling thread, so that it lasts.

    The first look of a thread at its number takes the one that any thread set last (ATen's `lazy_init_num_threads`):
    a number set before it would be lost where others set theirs.
    """
    torch.get_num_threads()
    torch.set_num_threads(count)


def feeders() -> int:
    """Threads that decode, and threads that segment, for a model on all cores that torch may use here.

    Two keep up with a model on a few cores; a GPU that takes thousands of pictures a second needs half of its host.
    They hold what the model waits for and no more, so they stand still where it is slow.
    """
    return max(_FEWEST, min(_MOST, torch.get_num_threads() // 2))


@contextmanager
def beside_model(device: torch.device) -> Iterator[Callable[[], None]]:
    """What every thread must call first that computes beside a model on `device`, with torch or with a compiled loop.

    A thread that opens a parallel region keeps a pool of threads. As soon as the pools of a process hold more threads
    than there are cores, OpenMP (libgomp) lets all of them sleep wherever they wait, the model's too, whose many short
    loops then wait for the scheduler: 180 rows a second became 90 on two cores. Beside a model on the CPU, threads
    therefore work alone. What the caller's later threads find is put back at the end.
    """
    if device.type != "cpu":
        yield lambda: None
        return
    threads = torch.get_num_threads()
    try:
        yield lambda: set_threads(1)
    finally:
        torch.set_num_threads(threads)
