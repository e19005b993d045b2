"""What the compiled CPU loops share. numba is imported when a loop first runs, never before."""

from __future__ import annotations

import contextlib
import functools
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from fastxai.errors import CannotRun


def prange(count: int) -> range:
    """Stands for `numba.prange` in the source of a loop; uncompiled, it is a plain range."""
    return range(count)


class ParallelLoop:
    """Decorator: a function over numpy arrays, compiled on its first call, whose `prange` runs on many threads.

    The code is kept in numba's cache (beside the source; in the user's cache folder where that is read-only). It
    runs without the interpreter's lock, on as many threads as torch would use; where that is one, it is compiled
    without a pool of threads. A loop must give the same result on any number of threads: an iteration of `prange`
    writes only what no other reads.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> None:
        if torch.get_num_threads() == 1:
            self._alone(*arguments)
        else:
            with _threads():
                self._compiled(*arguments)

    def parts(self, numba: Any) -> Mapping[str, Any]:
        """Functions that the loop calls, compiled for it, by the names it calls them."""
        return {}

    @functools.cached_property
    def _compiled(self) -> Callable[..., None]:
        return self._compile(parallel=True)

    @functools.cached_property
    def _alone(self) -> Callable[..., None]:
        return self._compile(parallel=False)

    def _compile(self, parallel: bool) -> Callable[..., None]:
        numba = _import()
        plain = self.function
        names = {**plain.__globals__, **self.parts(numba), "prange": numba.prange}
        body = types.FunctionType(plain.__code__, names, plain.__name__, plain.__defaults__, plain.__closure__)
        body.__module__ = plain.__module__
        # Numba's cache knows the two only by this name.
        body.__qualname__ = plain.__qualname__ if parallel else f"{plain.__qualname__}_alone"
        try:
            compiled = numba.njit(parallel=parallel, nogil=True, cache=True)(body)
        except RuntimeError:  # no folder to write to: compile in every process instead
            compiled = numba.njit(parallel=parallel, nogil=True)(body)
        return compiled  # type: ignore[no-any-return]


def _import() -> Any:
    try:
        import numba
    except ImportError as error:
        raise CannotRun(f"the CPU loops of fastxai need numba, which cannot be imported here: {error}") from error
    return numba


_one_at_a_time = threading.Lock()


@contextlib.contextmanager
def _threads() -> Iterator[None]:
    """torch's number of threads; and one loop at a time, since numba's built-in pool ends the process otherwise."""
    numba, threads = _import(), torch.get_num_threads()
    numba.set_num_threads(max(1, min(threads, numba.config.NUMBA_NUM_THREADS)))
    if torch.get_num_threads() != threads:  # its pool, when it begins, gives torch's OpenMP its own number
        torch.set_num_threads(threads)
    with _one_at_a_time:
        yield
