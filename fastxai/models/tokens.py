"""Where the tokens [B, T, D] of a transformer lie in the picture, and behind which layer the scores see them no more.

Nothing is known of names: both are seen in one forward and backward pass of grey pictures. NaN serves as a dye. Going
back through the network it outlives products with zero, so what it reaches is what depends on it, whatever the weights
(also where a new head is all zeros), and it stays out of positions that were cut off, whose gradients are exact zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from fastxai.models.layouts import MAPS, POSITIONS_FIRST, Layout
from fastxai.models.outputs import first_tensor

_STEPS = (1, 2, 4)  # how many positions to a side become one where patches are merged


@dataclass(frozen=True)
class Tokens:
    """layouts: of the layers whose outputs lie in known positions, by name. seen: those of them through which the
    scores depend on positions of the picture, and not only on class tokens."""

    layouts: dict[str, Layout]
    seen: frozenset[str]


def trace_tokens(module: nn.Module, forward: Callable[[], Tensor]) -> Tokens:
    """Run `forward`, which calls the frozen `module` once, with gradients, and returns scores [B, classes], B > 1.

    A convolution's output is the first grid. Each tensor of another shape that goes into or comes out of a layer is
    compared with the last one in known positions before it: its positions must be the same ones, or squares of them
    merged, in raster order, behind tokens that the picture does not reach. A shape is looked at where it appears first:
    there no attention has mixed the positions yet. A layer that later puts the same tokens into another order, as
    Hiera's do, is not noticed.
    """
    with torch.enable_grad(), torch.autograd.set_detect_anomaly(False):
        noted: list[_Noted] = []
        with ExitStack() as stack:
            for name, part in module.named_modules():
                if name:
                    before, after = _notes(name, part, noted)
                    stack.callback(part.register_forward_pre_hook(before, with_kwargs=True).remove)
                    stack.callback(part.register_forward_hook(after).remove)
            scores = forward()
        outputs = dict[str, tuple[Tensor, Layout]]()
        for note, layout in _placed(noted, len(scores)):
            if note.output:
                outputs[note.name] = note.tensor, layout
        tensors = [tensor for tensor, _ in outputs.values()]
        if not tensors or not scores.requires_grad:
            return Tokens({}, frozenset())
        dyed = torch.autograd.grad(scores, tensors, torch.full_like(scores, torch.nan), allow_unused=True)
    seen = {
        name
        for (name, (_, layout)), gradient in zip(outputs.items(), dyed, strict=True)
        if gradient is not None and layout.maps(gradient).isnan().any()
    }
    return Tokens({name: layout for name, (_, layout) in outputs.items()}, frozenset(seen))


@dataclass(frozen=True)
class _Noted:
    """A tensor that went into a layer or came out of it."""

    name: str
    part: nn.Module
    tensor: Tensor
    output: bool


def _notes(name: str, part: nn.Module, noted: list[_Noted]) -> tuple[Callable[..., None], Callable[..., None]]:
    def note(value: Any, output: bool) -> None:
        tensor = first_tensor(value)
        if tensor is not None and tensor.requires_grad and tensor.ndim in (3, 4):
            noted.append(_Noted(name, part, tensor, output))

    def before(part: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        note(arguments or named, False)

    def after(part: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        note(output, True)

    return before, after


def _placed(noted: list[_Noted], batch: int) -> Iterator[tuple[_Noted, Layout]]:
    """What lies in known positions, in the order of the pass."""
    known = dict[tuple[int, ...], Layout | None]()
    last: tuple[Tensor, Layout] | None = None
    for note in noted:
        tensor = note.tensor
        if len(tensor) != batch:  # windows, or heads, side by side
            continue
        layout: Layout | None
        if note.output and tensor.ndim == 4 and isinstance(note.part, _ConvNd):
            layout = MAPS
        else:
            # Tokens of one number lie alike whatever their width.
            shape = tuple(tensor.shape[1:2] if tensor.ndim == 3 else tensor.shape[1:])
            if shape not in known:
                if last is None:
                    continue
                known[shape] = _find(tensor, *last)
            layout = known[shape]
        if layout is not None:
            last = tensor, layout
            yield note, layout


def _find(tensor: Tensor, source: Tensor, lies: Layout) -> Layout | None:
    """The layout of a tensor that comes from `source`; None where none fits."""
    height, width = lies.maps(source).shape[2:]
    for step in _STEPS:
        rows, columns = -(-height // step), -(-width // step)
        if rows * columns < 2:
            continue
        if tensor.ndim == 3:
            layouts = [Layout(True, (rows, columns), int(tensor.shape[1]) - rows * columns)]
        else:
            layouts = [MAPS, POSITIONS_FIRST]
        for layout in layouts:
            fits = layout.prefix >= 0 and layout.maps(tensor).shape[2:] == (rows, columns)
            if fits and _comes_from(tensor, layout, source, lies, step):
                return layout
    return None


def _comes_from(tensor: Tensor, layout: Layout, source: Tensor, lies: Layout, step: int) -> bool:
    """Whether each position of `tensor` depends on some of its own `step` x `step` positions of `source`, on no others.

    Positions are told apart by the bits of their numbers: two passes a bit, each dyes the positions in which it is
    set, or not set.
    """

    def reached(dye: Tensor) -> Tensor:
        seed = torch.where(dye, torch.nan, 0.0).to(tensor.dtype).expand_as(tensor)
        (found,) = torch.autograd.grad(tensor, source, seed, retain_graph=True, allow_unused=True)
        return torch.zeros_like(number, dtype=torch.bool) if found is None else lies.maps(found).isnan().any(1).any(0)

    height, width = lies.maps(source).shape[2:]
    rows, columns = layout.maps(tensor).shape[2:]
    mine = torch.arange(rows * columns, device=tensor.device).reshape(rows, columns)
    number = mine.repeat_interleave(step, 0).repeat_interleave(step, 1)[:height, :width]
    if layout.prefix and bool(reached(layout.spread(torch.ones_like(mine)) == 0).any()):
        return False
    for bit in range((rows * columns - 1).bit_length()):
        for value in (0, 1):
            dyed = (mine >> bit) & 1 == value
            found = reached(layout.spread(dyed.int()) == 1)
            if not torch.equal(number[found].unique(), mine[dyed]):
                return False
    return True
