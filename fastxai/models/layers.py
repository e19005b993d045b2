"""Which layer to explain: the layers that one forward pass runs, and the last one with feature maps or a token grid."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from fastxai.errors import ArgumentError
from fastxai.models.layouts import MAPS, POSITIONS_FIRST, Layout
from fastxai.models.outputs import count_tensors, first_tensor
from fastxai.models.tokens import Tokens

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

    def automatic(self, tokens: Callable[[], Tokens]) -> str:
        """The last layer with feature maps, or with a grid of tokens that the scores see.

        That is: the last convolution with more than one position, then the last module to finish after it that ran
        once and kept its height and width (norm, activation, block, stage: whichever encloses or follows it last).

        Where weights go on to work on tokens behind it, as in transformers, whose last convolution is the patch
        embedding at the entrance: the last module that ran once, gives outputs in known positions, and through whose
        positions the scores depend on the picture (behind the last attention often only a class token goes on). Linear
        layers are passed over: they are inner parts of attention (queries, keys and values side by side) or of an MLP.
        Refused where tokens behind it lie in no known grid. tokens: what is seen of them, asked for only then.
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
        if chosen is not None and not any(_works_on_tokens(run) for run in self._runs[chosen + 1 :]):
            return self._runs[chosen].name
        found = tokens()
        for run in reversed(self._runs):
            if isinstance(run.part, nn.Linear):
                continue
            if len(run.shape) == 3 and _works_on_tokens(run) and run.name not in found.layouts:
                break  # they may be what the scores see, but nobody knows where they lie
            if run.name in found.seen and self._stands_alone(run):
                return run.name
        raise ArgumentError(
            "layer must be named, as this model ends neither in feature maps nor in a grid of tokens: "
            f"{self._list(found)}"
        )

    def check(self, name: str, tokens: Callable[[], Tokens]) -> str:
        """`name`, if that layer ran and gave feature maps, or tokens that lie in a grid."""
        self.layout(name, tokens)
        return name

    def layout(self, name: str, tokens: Callable[[], Tokens]) -> Layout:
        """How the output of a layer is read as maps [B, D, h, w]; `ArgumentError` where it cannot be."""
        if name not in self._names:
            close = difflib.get_close_matches(name, sorted(self._names), n=3)
            hint = f"did you mean {', '.join(close)}? " if close else ""
            raise ArgumentError(f"layer must be a layer of the model, got {name!r}; {hint}{self._list()}")
        if name not in self._times:
            raise ArgumentError(f"layer must run in the model's forward pass, got {name!r}; {self._list()}")
        shape = next(run.shape for run in reversed(self._runs) if run.name == name)
        # In models of maps alone shapes say enough, and they need not run once more.
        found = tokens() if len(shape) == 3 or (len(shape) == 4 and any(map(_works_on_tokens, self._runs))) else None
        layout = found.layouts.get(name) if found else None
        if layout is None and len(shape) == 4:
            return POSITIONS_FIRST if self.positions_first(name) else MAPS
        if layout is None:
            raise ArgumentError(
                "layer must give feature maps [B, D, h, w], or tokens [B, T, D] that lie in a grid, "
                f"got {name!r}, which gives {list(shape)}; {self._list(found)}"
            )
        return layout

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

    def _list(self, tokens: Tokens | None = None) -> str:
        said = [f"layers with feature maps: {found}" for found in [_few(self.candidates())] if found]
        if tokens is not None:
            grids = [run.name for run in reversed(self._runs) if self._stands_alone(run) and run.name in tokens.layouts]
            said += [f"with a grid of tokens: {found}" for found in [_few(grids)] if found]
        return "; ".join(said) or "no layer gives feature maps"

    def _once(self, run: Run) -> bool:
        return self._times[run.name] == 1

    def _stands_alone(self, run: Run) -> bool:
        # Of several tensors it is not known which one goes on to the scores (transformers' backbones return maps and
        # their mean, and only the mean goes on).
        return run.alone and self._once(run) and not isinstance(run.part, nn.Identity)

    def _may_be_named(self, run: Run) -> bool:
        return run.is_map and self._stands_alone(run)

    def _is_conv(self, run: Run) -> bool:
        return isinstance(run.part, _ConvNd) and run.is_map


def _few(names: list[str]) -> str:
    """The outermost of the last names."""
    return ", ".join(sorted(names[: 4 * _LISTED], key=lambda name: name.count("."))[:_LISTED])


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
