"""Batch norms with fixed statistics folded into the convolutions before them, for modules that no tracer can read.

    conv'(x) = batch_norm(conv(x)):  W' = W g / sqrt(v + eps),  b' = (b - m) g / sqrt(v + eps) + beta

(Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018,
section 3.2.) Which batch norm follows which convolution is seen in one forward pass, from the tensors that pass between
torch's functions: control flow in Python, padding and modules of any library do not matter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode

from fastxai.models.outputs import first_tensor

# float32 rounds at 6e-8 a step; dozens of folded layers were seen to move scores by some 1e-6 of their range.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Fold:
    """One batch norm folded into one convolution, with what it takes to undo it.

    layers: names of all modules whose output is the convolution's own, which folding changes.
    """

    convolution: nn.Conv2d
    norm_name: str
    norm: nn.Module
    weight: Tensor
    bias: Tensor | None
    layers: frozenset[str]


class Folded:
    """The folds of a module. `len`: how many are in force."""

    def __init__(self, module: nn.Module, folds: Sequence[Fold] = ()) -> None:
        self._module, self._folds = module, list(folds)

    def __len__(self) -> int:
        return len(self._folds)

    def restore(self, layers: Sequence[str]) -> None:
        """Undo the folds that change the output of any of `layers`, so that it can be recorded."""
        for fold in [fold for fold in self._folds if not fold.layers.isdisjoint(layers)]:
            like = fold.convolution.weight
            fold.convolution.weight = _like(fold.weight, like)
            fold.convolution.bias = None if fold.bias is None else _like(fold.bias, like)
            self._module.set_submodule(fold.norm_name, fold.norm.to(like.device))
            self._folds.remove(fold)


def fold_batch_norms(module: nn.Module, forward: Callable[[], Tensor]) -> Folded:
    """Fold every batch norm that can be folded, in place; `forward` calls the module once and returns its scores.

    The module must be frozen, in evaluation mode and in float32. A pair is folded where the convolution's output goes
    to the batch norm alone, both run once and are used nowhere else, and neither has hooks. The scores are compared
    afterwards: where they moved by more than a thousandth of their range, everything is put back.
    """
    with torch.no_grad():
        before, pairs = _trace(module, forward)
        folded = Folded(module, [_fold(module, pair) for pair in pairs])
        if pairs:
            after = forward()
            span = float(before.max() - before.min())
            if not float((after - before).abs().max()) <= _TOLERANCE * span:
                folded.restore([name for pair in pairs for name in pair.layers])
    return folded


@dataclass
class _Convolved:
    """A convolution's output on its way: who made it, and how many functions have read it."""

    weight: Tensor
    output: Tensor  # held, so that no other tensor takes its identity
    readers: int = 0
    norm: Tensor | None = None  # the running mean of the batch norm that read it
    layers: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Pair:
    convolution: nn.Conv2d
    norm_name: str
    norm: _BatchNorm
    layers: frozenset[str]


class _Watch(TorchFunctionMode):
    """Follows the outputs of 2-D convolutions to the functions that read them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, _Convolved] = {}
        self.norms: list[int] = []  # identity of the running mean of every batch norm that ran

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) or (isinstance(result, (tuple, list)) and any(map(torch.is_tensor, result))):
            for tensor in _tensors((args, kwargs)):
                if id(tensor) in self.found:
                    self.found[id(tensor)].readers += 1
        if func is F.conv2d and isinstance(result, Tensor):
            weight = kwargs["weight"] if "weight" in kwargs else args[1]
            self.found[id(result)] = _Convolved(weight, result)
        if func is F.batch_norm:
            given = dict(zip(("input", "running_mean"), args, strict=False)) | kwargs
            self.norms.append(id(given["running_mean"]))
            if id(given["input"]) in self.found:
                self.found[id(given["input"])].norm = given["running_mean"]
        return result


def _trace(module: nn.Module, forward: Callable[[], Tensor]) -> tuple[Tensor, list[_Pair]]:
    watch = _Watch()
    with ExitStack() as stack:
        for name, part in module.named_modules():

            def note(part: nn.Module, arguments: Any, output: Any, name: str = name) -> None:
                tensor = first_tensor(output)
                if id(tensor) in watch.found:
                    watch.found[id(tensor)].layers.add(name)

            stack.callback(part.register_forward_hook(note).remove)
        own = {id(part) for part in module.modules() if _hooks(part) == 1}
        stack.enter_context(watch)
        scores = forward()
    return scores, list(_pairs(module, watch, own))


def _pairs(module: nn.Module, watch: _Watch, unhooked: set[int]) -> Iterator[_Pair]:
    """The pairs that may be folded."""
    owners: dict[int, list[nn.Module | None]] = {}
    for part in module.modules():
        for parameter in part.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(part)
    norms = {id(part.running_mean): (name, part) for name, part in module.named_modules() if _can_go(part)}
    runs = [id(found.weight) for found in watch.found.values()]
    for found in watch.found.values():
        owner, *more = owners.get(id(found.weight), [None])
        if (
            not more
            and isinstance(owner, nn.Conv2d)
            and found.readers == 1
            and id(found.norm) in norms
            and watch.norms.count(id(found.norm)) == 1
            and runs.count(id(found.weight)) == 1
            and id(owner) in unhooked
            and id(norms[id(found.norm)][1]) in unhooked
        ):
            name, norm = norms[id(found.norm)]
            yield _Pair(owner, name, norm, frozenset(found.layers))


def _hooks(part: nn.Module) -> int:
    hooks = (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)
    return sum(map(len, hooks))


def _can_go(part: nn.Module) -> bool:
    return isinstance(part, _BatchNorm) and part.running_mean is not None and not part.training


def _fold(module: nn.Module, pair: _Pair) -> Fold:
    conv, norm = pair.convolution, pair.norm
    assert norm.running_mean is not None and norm.running_var is not None
    fold = Fold(conv, pair.norm_name, norm, conv.weight, conv.bias, pair.layers)
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    conv.requires_grad_(False)
    module.set_submodule(pair.norm_name, _rest(norm))
    return fold


def _rest(norm: _BatchNorm) -> nn.Module:
    """What a batch norm does beside normalising: timm's also drop and activate."""
    parts = {name: getattr(norm, name, None) for name in ("drop", "act")}  # under their names: they may be recorded
    rest = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
    return nn.Sequential(OrderedDict(rest)) if rest else nn.Identity()


def _like(parameter: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(parameter.detach().to(like.device, like.dtype), requires_grad=False)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
