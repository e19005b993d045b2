"""Copies to a CUDA device and back beside the model's work; on the CPU there is nothing to copy.

Up: from pinned memory on a stream of its own, begun when a batch is ready on the host, which is ahead of its use.
Down: into pinned memory on another stream, behind the work queued so far; the work queued afterwards goes on meanwhile.
The host waits in one place only, where it takes what was copied down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Arrival = Callable[[], Mapping[str, Tensor]]  # the tensors on the other side; to be called once
Mark = float | torch.cuda.Event


class Transfer:
    """The way to a device and back."""

    def __init__(self, device: torch.device) -> None:
        self.device, self._cuda = device, device.type == "cuda"
        self._up = torch.cuda.Stream(device) if self._cuda else None
        self._down = torch.cuda.Stream(device) if self._cuda else None

    @property
    def behind(self) -> int:
        """Batches whose results may still be on their way while the next one begins."""
        return 1 if self._cuda else 0

    def up(self, tensors: Mapping[str, Tensor]) -> Arrival:
        """Begin to copy tensors of the host; from any thread. Work queued after the arrival waits for the copies."""
        if self._up is None:
            return lambda: tensors
        with torch.cuda.stream(self._up):
            moved = {name: tensor.pin_memory().to(self.device, non_blocking=True) for name, tensor in tensors.items()}
            copied = self._up.record_event()

        def take() -> Mapping[str, Tensor]:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(copied)
            for tensor in moved.values():
                tensor.record_stream(stream)  # its memory was allocated for the other stream
            return moved

        return take

    def down(self, tensors: Mapping[str, Tensor]) -> Arrival:
        """Begin to copy tensors to the host, behind what is queued now. The arrival waits for the copies."""
        if self._down is None:
            return lambda: tensors
        self._down.wait_stream(torch.cuda.current_stream(self.device))
        moved = {}
        with torch.cuda.stream(self._down):
            for name, tensor in tensors.items():
                if tensor.device.type == "cpu":  # a method may make a field on the host
                    moved[name] = tensor
                    continue
                moved[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
                moved[name].copy_(tensor, non_blocking=True)
                tensor.record_stream(self._down)
            copied = self._down.record_event()

        def take() -> Mapping[str, Tensor]:
            copied.synchronize()
            return moved

        return take

    def mark(self) -> Mark:
        """A point in the device's work; nothing waits for it."""
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event


def on_device(index: Tensor, device: torch.device) -> Tensor:
    """A small index of the host on a device. Indexing with the host's own would wait for all work queued before."""
    return index.to(device, non_blocking=True)


def seconds(begin: Mark, end: Mark) -> float:
    """Time between two marks; on CUDA, of work that something copied down since has waited for."""
    if isinstance(begin, float) and isinstance(end, float):
        return end - begin
    assert isinstance(begin, torch.cuda.Event) and isinstance(end, torch.cuda.Event)
    return float(begin.elapsed_time(end)) / 1000
