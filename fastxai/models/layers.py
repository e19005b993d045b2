"""Which layer to explain: the layers that one forward pass runs, and the last one with feature maps."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from fastxai.errors import ArgumentError
from fastxai.models.outputs import count_tensors, first_tensor

_LISTED = 6  # candidates named in an error


@dataclass(frozen=True)
class Run:
    """One execution of a module: its name, itself, the shape of its (first) output tensor, and whether it is alone."""

    name: str
    part: nn.Module
    shape: tuple[int, ...]
    alone: bool = True

    @property
    def is_map(self) -> bool:
        """Gives [B, D, h, w] with more than one position."""
        return len(self.shape) == 4 and self.shape[2] * self.shape[3] > 1


class Layers:
    """The executions of a forward pass in the order in which they finished, so a container comes after its parts."""

    def __init__(self, names: set[str], runs: list[Run]) -> None:
        self._names, self._runs = names, runs
        self._times: dict[str, int] = {}
        for run in runs:
            self._times[run.name] = self._times.get(run.name, 0) + 1

    @classmethod
    def trace(cls, module: nn.Module, forward: Callable[[], object]) -> Layers:
        """Run `forward`, which calls `module` once, and note every part of it that runs."""
        runs: list[Run] = []
        handles = []

        def note(name: str) -> Callable[..., None]:
            def hook(part: nn.Module, arguments: object, output: object) -> None:
                tensor = first_tensor(output)
                if isinstance(tensor, Tensor):
                    runs.append(Run(name, part, tuple(tensor.shape), count_tensors(output) == 1))

            return hook

        names = {name for name, _ in module.named_modules() if name}
        try:
            for name, part in module.named_modules():
                if name:
                    handles.append(part.register_forward_hook(note(name)))
            forward()
        finally:
            for handle in handles:
                handle.remove()
        return cls(names, runs)

    def automatic(self) -> str:
        """The last layer with feature maps.

        That is: the last convolution with more than one position, then the last module to finish after it that ran
        once and kept its height and width (norm, activation, block, stage: whichever encloses or follows it last).
        Refused where weights go on to work on tokens behind it, as in transformers: their last convolution is the
        patch embedding at the entrance.
        """
        at = max((i for i, run in enumerate(self._runs) if self._is_conv(run)), default=None)
        if at is None:
            raise ArgumentError(
                f"layer must be named, as this model has no convolution with feature maps: {self._list()}"
            )
        size, chosen = self._runs[at].shape[2:], at if self._once(self._runs[at]) else None
        for i in range(at + 1, len(self._runs)):
            run = self._runs[i]
            if run.shape[2:] == size and self._may_be_named(run):
                chosen = i
        if chosen is None or any(_works_on_tokens(run) for run in self._runs[chosen + 1 :]):
            raise ArgumentError(f"layer must be named, as this model does not end in feature maps: {self._list()}")
        return self._runs[chosen].name

    def check(self, name: str) -> str:
        """`name`, if that layer ran and gave feature maps."""
        if name not in self._names:
            close = difflib.get_close_matches(name, sorted(self._names), n=3)
            hint = f"did you mean {', '.join(close)}? " if close else ""
            raise ArgumentError(f"layer must be a layer of the model, got {name!r}; {hint}{self._list()}")
        if name not in self._times:
            raise ArgumentError(f"layer must run in the model's forward pass, got {name!r}; {self._list()}")
        shape = next(run.shape for run in reversed(self._runs) if run.name == name)
        if len(shape) != 4:
            raise ArgumentError(
                f"layer must give feature maps [B, D, h, w], got {name!r}, which gives {list(shape)}; {self._list()}"
            )
        return name

    def positions_first(self, name: str) -> bool:
        """Whether the layer gives [B, h, w, D], as Swin's do: the shape that weights on the last axis left there."""
        last: tuple[int, ...] = ()
        found = False
        for run in self._runs:
            if _mixes_last_axis(run.part):
                last = run.shape
            elif isinstance(run.part, _ConvNd):
                last = ()
            if run.name == name:
                found = len(run.shape) == 4 and run.shape == last
        return found

    def candidates(self) -> list[str]:
        """Layers with feature maps that ran once, the last to finish first."""
        return [run.name for run in reversed(self._runs) if self._may_be_named(run)]

    def _list(self) -> str:
        found = sorted(self.candidates()[: 4 * _LISTED], key=lambda name: name.count("."))[:_LISTED]
        return f"layers with feature maps: {', '.join(found)}" if found else "no layer gives feature maps"

    def _once(self, run: Run) -> bool:
        return self._times[run.name] == 1

    def _may_be_named(self, run: Run) -> bool:
        # Of several tensors it is not known which one goes on to the scores (transformers' backbones return maps and
        # their mean, and only the mean goes on).
        return run.is_map and run.alone and self._once(run) and not isinstance(run.part, nn.Identity)

    def _is_conv(self, run: Run) -> bool:
        return isinstance(run.part, _ConvNd) and run.is_map


def _mixes_last_axis(part: nn.Module) -> bool:
    # Subclasses of LayerNorm that normalise channels of [B, D, h, w] (torchvision's and timm's LayerNorm2d) do not.
    return isinstance(part, nn.Linear) or type(part) is nn.LayerNorm


def _works_on_tokens(run: Run) -> bool:
    """Weights on [B, tokens, D], or on [B, h, w, D] as in Swin."""
    if next(run.part.parameters(recurse=False), None) is None:
        return False
    if len(run.shape) == 3:
        return run.shape[1] > 1
    return len(run.shape) == 4 and _mixes_last_axis(run.part) and run.shape[1] * run.shape[2] > 1
