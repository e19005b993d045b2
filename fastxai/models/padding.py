"""Zero padding that a convolution module does by itself, as TensorFlow's "SAME" needs, made the convolution's own.

    conv(pad(x, left, right), W)  =  conv(x, W', padding=max(left, right))

with W' = W, or where the sides differ, W with zeros put before (right > left) or behind (left > right) its taps: a
product with zero instead of a copy of the whole input. Which modules pad is seen in one forward pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Float32 products with other kernel shapes round elsewhere; anything beyond is not the same convolution.
_TOLERANCE = 1e-3
# Zeros in a kernel are multiplied: cheap beside a copy of the input where an output has few products.
_FEW_CHANNELS = 4


def take_in_padding(module: nn.Module, forward: Callable[[], Tensor], *, wider: bool) -> int:
    """Replace, in place, every convolution module that pads and then convolves; how many those were.

    The module must be frozen, in evaluation mode and in float32; `forward` calls it once, with inputs of the only size
    it will see, and returns its scores. wider: whether kernels may grow by zeros, for padding that is not the same on
    both sides; it is done for depthwise convolutions and those of few channels only. The scores are compared
    afterwards: where they moved by more than a thousandth of their range, everything is put back.
    """
    if not any(map(_may_go, module.modules())):
        return 0  # without a forward pass: most models have no such module, and sessions open often
    with torch.no_grad():
        before, found = _trace(module, forward)
        made = [(padded, _plain(padded)) for padded in found if wider or _even(padded.padding)]
        for padded, plain in made:
            module.set_submodule(padded.name, plain)
        if made:
            after = forward()
            if not float((after - before).abs().max()) <= _TOLERANCE * float(before.max() - before.min()):
                for padded, _ in made:
                    module.set_submodule(padded.name, padded.convolution)
                return 0
    return len(made)


@dataclass(frozen=True)
class _Padded:
    """A convolution module, with the zeros (left, right, top, bottom) that it puts around its input."""

    name: str
    convolution: nn.Conv2d
    padding: tuple[int, int, int, int]


class _Calls(TorchFunctionMode):
    """Paddings and convolutions by the identity of their result, which is held so that no other tensor takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.pads: dict[int, tuple[Tensor, Tensor, tuple[int, ...]]] = {}
        self.convolutions: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is F.pad:
            given = dict(zip(("input", "pad", "mode", "value"), args, strict=False)) | kwargs
            if given.get("mode", "constant") == "constant" and not given.get("value"):
                self.pads[id(result)] = (result, given["input"], tuple(map(int, given["pad"])))
        if func is F.conv2d:
            self.convolutions[id(result)] = (result, kwargs["input"] if "input" in kwargs else args[0])
        return result


def _trace(module: nn.Module, forward: Callable[[], Tensor]) -> tuple[Tensor, list[_Padded]]:
    calls, runs = _Calls(), dict[str, list[tuple[Any, Any]]]()
    uses = Counter(id(part) for _, part in module.named_modules(remove_duplicate=False))
    with ExitStack() as stack:
        for name, part in module.named_modules():
            if not name or uses[id(part)] > 1 or not _may_go(part):
                continue

            def note(part: nn.Module, arguments: tuple[Any, ...], output: Any, name: str = name) -> None:
                runs.setdefault(name, []).append((arguments, output))

            stack.callback(part.register_forward_hook(note).remove)
        stack.enter_context(calls)
        scores = forward()
    return scores, list(_padded(module, calls, runs))


def _may_go(part: nn.Module) -> bool:
    return (
        isinstance(part, nn.Conv2d)
        and type(part).forward is not nn.Conv2d.forward
        and not part._forward_hooks
        and not part._forward_pre_hooks
        and not part._backward_hooks
        and not part._backward_pre_hooks
        and part.padding_mode == "zeros"
    )


def _padded(module: nn.Module, calls: _Calls, runs: dict[str, list[tuple[Any, Any]]]) -> Iterator[_Padded]:
    for name, (run, *more) in runs.items():
        (arguments, output), convolution = run, module.get_submodule(name)
        assert isinstance(convolution, nn.Conv2d)
        _, padded = calls.convolutions.get(id(output), (None, None))
        _, source, pad = calls.pads.get(id(padded), (None, None, ()))
        if more or len(pad) != 4 or min(pad) < 0 or len(arguments) != 1 or arguments[0] is not source:
            continue
        left, right, top, bottom = pad
        depthwise = convolution.groups == convolution.in_channels
        gaps = ((bottom - top) % convolution.dilation[0], (right - left) % convolution.dilation[1])
        small = depthwise or convolution.in_channels <= _FEW_CHANNELS
        if _even((left, right, top, bottom)) or (small and gaps == (0, 0)):
            yield _Padded(name, convolution, (left, right, top, bottom))


def _even(padding: tuple[int, int, int, int]) -> bool:
    left, right, top, bottom = padding
    return left == right and top == bottom


def _plain(padded: _Padded) -> nn.Conv2d:
    """The same convolution of an input without the zeros around it."""
    conv, (left, right, top, bottom) = padded.convolution, padded.padding
    rows, columns = conv.dilation
    before = (max(right - left, 0) // columns, max(left - right, 0) // columns)
    above = (max(bottom - top, 0) // rows, max(top - bottom, 0) // rows)
    weight = F.pad(conv.weight, (*before, *above))
    plain = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        (int(weight.shape[2]), int(weight.shape[3])),
        (conv.stride[0], conv.stride[1]),
        (max(top, bottom), max(left, right)),
        (rows, columns),
        conv.groups,
        conv.bias is not None,
        device="meta",
    )
    plain.weight = nn.Parameter(weight, requires_grad=False)
    plain.bias = conv.bias
    return plain.eval()
